"""Make a folder that runs another suite, e.g. `suite paper ../paper --data-root /data`.

It is a clone of this project with the suite's params; run `make repro` in it.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("name", help="of the suite, whose settings are in params-NAME.yaml")
    parser.add_argument("folder", type=Path, help="the folder to make")
    parser.add_argument("--data-root", type=Path,
                        help="folder of the datasets in CoOp's layout")


def run(args: Namespace) -> None:
    """Make the folder and say what to do next."""
    from ..suite import make_suite
    make_suite(load_params(args.params).root, args.name, args.folder, args.data_root)
    print(f"made {args.folder}; run `make repro` in it (`python -m promptstudy doctor` first)")
