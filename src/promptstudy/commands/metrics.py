"""Write the main results as small files for `dvc metrics`, `dvc plots` and `dvc exp`."""

from ..params import load_params


def arguments(parser):
    """The command takes no arguments."""


def run(args):
    """Write reports/metrics/METHOD.json and reports/curves/*.csv."""
    from ..summary import write_summary
    write_summary(load_params(args.params))
