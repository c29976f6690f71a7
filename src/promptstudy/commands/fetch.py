"""Download openly available datasets to data_root, in CoOp's layout, and check them.

It can be interrupted at any moment: the next call resumes where this one stopped.
"""

import sys
from argparse import Namespace

from ..errors import FetchError
from ..params import load_params
from . import doctor
from .doctor import arguments  # noqa: F401 -- the same as doctor's


def run(args: Namespace) -> None:
    """Download what is missing and print doctor's table; raise `FetchError` if something failed."""
    from ..datasets.fetch import fetch
    from ..datasets.root import data_root
    params = load_params(args.params)
    failed = 0
    for name in map(params.any_dataset, args.datasets or params.every_dataset):
        layout = params.every_dataset[name].layout
        try:
            if layout:
                fetch(data_root(params), layout)
        except FetchError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed += 1
    doctor.run(args)
    if failed:
        raise FetchError(f"{failed} downloads failed")
