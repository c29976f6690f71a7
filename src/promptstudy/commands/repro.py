"""Bring all results up to date: `dvc repro`, then a summary of what ran, why, and the report.

First it checks params.yaml, removes what a killed run left behind and DVC's own damaged files, and
strips outputs that an editor has saved from the notebooks.
"""

from argparse import ArgumentParser, Namespace

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("dvc_arguments", nargs="*", metavar="ARGUMENT",
                        help="passed to dvc repro, after --, e.g. -- --force coop@grocery")


def run(args: Namespace) -> None:
    """Raise `UserError` if a stage fails."""
    from .. import budget, repro
    from ..lifetime import RAN
    from .check import check_suite
    from .strip import strip_notebooks
    params = load_params(args.params)
    check_suite(params)
    for path in repro.sweep(params.root):
        print(f"removed {path}, damaged or left behind by a killed run")
    strip_notebooks(params)
    why = repro.reasons(params.root)
    (params.root / RAN).unlink(missing_ok=True)
    if budget.takes_long(params, why):
        print(_cost(params, why), flush=True)
    if why or args.dvc_arguments:  # else DVC, which takes seconds to start, would run nothing
        repro.run(params.root, args.dvc_arguments)
    print(repro.summary(why, repro.ran(params.root), params))


def _cost(params, stages):
    """Return one line on what the stages that are out of date cost, at most."""
    from ..budget import cost_table, total, work_of
    from ..machine import measure
    return total(cost_table(work_of(params, stages), measure(params)))
