"""Compute the feature packs in data/packs from the images under data_root."""

from argparse import ArgumentParser, Namespace

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("datasets", nargs="*", metavar="DATASET",
                        help="name of a dataset in params.yaml (default: all)")


def run(args: Namespace) -> None:
    """Write the packs."""
    from ..features import build_packs
    params = load_params(args.params)
    build_packs(params, args.datasets or list(params.every_dataset))
