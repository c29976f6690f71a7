"""Print what the suite costs before anything runs: images, steps, hours and memory here.

Operations are counted from params.yaml, and this machine is measured for a few seconds.
"""

from ..params import load_params


def arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument("stages", nargs="*", metavar="STAGE",
                        help="as DVC names it, e.g. coop@dtd10 (default: all)")


def run(args):
    """Print a table and the total; raise `ParamsError` for a stage that the suite does not have."""
    from ..budget import cost_table, stages_of, total, work_of
    from ..errors import ParamsError
    from ..machine import measure
    params = load_params(args.params)
    known = stages_of(params)
    for stage in args.stages:
        if stage not in known:
            raise ParamsError(f"dvc.yaml has no stage {stage!r}; it has {', '.join(known)}")
    found = cost_table(work_of(params, args.stages or known), measure(params))
    print(found.to_string(formatters={"images": "{:,}".format, "runs": "{:,}".format,
                                      "steps": "{:,}".format, "hours": "{:.2f}".format,
                                      "GB": "{:.1f}".format}))
    print(f"\n{total(found)}")
