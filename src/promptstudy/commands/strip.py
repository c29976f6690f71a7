"""Take outputs and traces of editors out of the notebooks, as `make repro` and Git's hook do."""

from argparse import ArgumentParser, Namespace

from ..params import Params, load_params


def arguments(parser: ArgumentParser) -> None:
    """The command takes no arguments."""


def run(args: Namespace) -> None:
    """Say which notebooks this has changed."""
    strip_notebooks(load_params(args.params))


def strip_notebooks(params: Params) -> None:
    """Do what the command does, for params that have been loaded."""
    from ..lab import strip_outputs
    for path in strip_outputs(params.root / "notebooks"):
        print(f"stripped the outputs of {path.name}; its code and text are unchanged")
