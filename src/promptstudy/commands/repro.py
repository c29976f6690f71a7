"""Bring all results up to date: `dvc repro`, and then say what ran, why, and where the report is.

What a killed run left behind and what is damaged of DVC's own files is removed first, outputs that
a notebook editor has saved are taken out of the notebooks, and params.yaml is checked.
"""

from ..params import load_params


def arguments(parser):
    """Declare what the command takes."""
    parser.add_argument("dvc_arguments", nargs="*", metavar="ARGUMENT",
                        help="for dvc repro, after --, e.g. -- --force coop@grocery")


def run(args):
    """Raise `UserError` if a stage fails."""
    from .. import repro
    from ..lifetime import RAN
    from . import check, strip
    params = load_params(args.params)
    check.run(args)
    for path in repro.sweep(params.root):
        print(f"removed {path}, damaged or left behind by a run that was killed")
    strip.run(args)
    why = repro.reasons(params.root)
    (params.root / RAN).unlink(missing_ok=True)
    repro.run(params.root, args.dvc_arguments)
    print(repro.summary(why, repro.ran(params.root), params))
