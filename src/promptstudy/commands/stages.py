"""Write into dvc.yaml the stages of the suite's methods, and the files of src/ each depends on."""

from ..params import load_params


def arguments(parser):
    """Declare what the command takes: nothing."""


def run(args):
    """Rewrite dvc.yaml; comments, and what is not of methods or below src/, stay."""
    from ..stages import rewrite
    rewrite(load_params(args.params))
