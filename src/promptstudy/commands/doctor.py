"""Report whether each dataset is present, missing or broken, and what to do about it."""

from argparse import ArgumentParser, Namespace

from ..errors import UserError
from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("datasets", nargs="*", metavar="DATASET",
                        help="name of a dataset in params.yaml (default: all)")


def run(args: Namespace) -> None:
    """Print the table; raise `UserError` if a dataset cannot be used."""
    from ..doctor import diagnose, overview
    params = load_params(args.params)
    names = args.datasets or params.every_dataset
    findings = [diagnose(params, params.any_dataset(name)) for name in names]
    print(overview(findings))
    unusable = sum(finding.state != "present" for finding in findings)
    if unusable:
        raise UserError(f"{unusable} of {len(findings)} datasets cannot be used")
