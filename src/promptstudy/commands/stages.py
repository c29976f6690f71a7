"""Write the stages of the suite's methods, and their files of src/, into dvc.yaml."""

from argparse import ArgumentParser, Namespace

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """The command takes no arguments."""


def run(args: Namespace) -> None:
    """Rewrite dvc.yaml; comments and everything not about methods or src/ stay."""
    from ..stages import rewrite
    rewrite(load_params(args.params))
