"""Run the pipeline on a SLURM cluster: `cluster plan`, `submit`, `status`, `collect`.

Each stage that is missing is a job of its own, which runs DVC on that stage in a clone of the last
commit. What has run is taken from the cache that all of them share. `run` is what a job does.
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    plan = actions.add_parser("plan", help="show the jobs, what they wait for and what they cost")
    plan.add_argument("--gpus", type=_positive, metavar="N",
                      help="the time on N GPUs, as an A100 is assumed (default: on this machine)")
    submit = actions.add_parser("submit", help="send what is missing and not in the queue")
    submit.add_argument("--dry-run", action="store_true", help="write the script, send nothing")
    for action in (plan, submit):
        action.add_argument("--per-job", type=_positive, default=1, metavar="N",
                            help="stages that one job runs in turn (default: 1)")
    actions.add_parser("status", help="say what became of the jobs, with the end of their logs")
    actions.add_parser("collect", help="take all results from the cache; computes nothing")
    job = actions.add_parser("run", help="run stages, each in a clone of its own, as a job does")
    job.add_argument("--commit", help="of the project that they run (default: the last)")
    job.add_argument("stages", nargs="+", metavar="STAGE", help="as DVC names it")


def _positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def run(args: Namespace) -> None:
    """Do one of them; raise `UserError` for what the user can mend."""
    params = load_params(args.params)
    {"plan": _plan, "submit": _submit, "status": _status, "collect": _collect,
     "run": _run}[args.action](args, params)


def _left(params):
    """Return the stages that are missing, and say how many."""
    from ..runcache import missing, opened
    with opened(params.root) as repo:
        left = missing(repo)
    print(f"{len(left)} stages are missing" if left else "nothing is missing")
    return left


def _plan(args, params):
    from .. import budget
    from ..cluster import jobs_of
    from ..machine import assumed_gpu, measure
    left = _left(params)
    if not left:
        return
    speed = assumed_gpu(params) if args.gpus else measure(params)
    work, jobs = budget.work_of(params, left), jobs_of(left, args.per_job)
    job_of = {stage: job.stages[0] for job in jobs for stage in job.stages}
    after, hours = {}, {}
    for job in jobs:
        name = job.stages[0]
        after[name] = list(dict.fromkeys(job_of[stage] for stage in job.after))
        hours[name] = sum(budget.hours_of(work[stage], speed) for stage in job.stages)
        memory = max(work[stage].memory(speed) for stage in job.stages) / 1e9
        waits = ", ".join(after[name][:3]) + (", ..." if len(after[name]) > 3 else "")
        print(f"{' '.join(job.stages)}: {budget.duration(hours[name])}, {memory:.1f} GB"
              f"{waits and f', after {waits}'}")
    print(f"\n{_in_all(after, hours, args.gpus)}")


def _in_all(after, hours, gpus):
    """Return one line: how long the jobs take one after another, and side by side."""
    from ..budget import UNSURE, duration, elapsed
    whole = elapsed(after, hours, gpus)
    machine = "GPU, as assumed," if gpus else "machine like this one"
    return (f"{len(hours)} jobs, {duration(sum(hours.values()))} of one {machine} in all; "
            f"{f'on {gpus} GPUs' if gpus else 'with a machine for every job'} about "
            f"{duration(whole)} ({duration(whole / UNSURE)} to {duration(whole * UNSURE)}), and "
            f"never less than the longest chain of jobs, {duration(elapsed(after, hours))}")


def _submit(args, params):
    from ..cluster import SCRIPT, submit
    from ..runcache import JOBS, TEMPLATE, commit_of
    commit = commit_of(params.root)
    jobs = submit(params.root, _left(params), commit, args.per_job, send=not args.dry_run)
    print(f"{JOBS / SCRIPT} {'would send' if args.dry_run else 'sent'} {len(jobs)} jobs as in "
          f"{TEMPLATE}, of commit {commit[:7]}")


def _status(args, params):
    from ..cluster import states
    found = states(params.root)
    for state in found:
        if state.word in ("failed", "killed"):
            print(f"{state.stage}: {state.word}; "
                  f"{state.log.relative_to(params.root)} ends with:\n{state.said}\n")
    for word, count in Counter(state.word for state in found).items():
        names = ", ".join(state.stage for state in found if state.word == word)
        print(f"{word.lower()}: {count}{'' if word == 'done' else f' ({names})'}")


def _collect(args, params):
    from ..errors import StageError
    from ..repro import summary
    left = _left(params)
    if left:
        raise StageError(f"{', '.join(left)}: not in the cache yet; `cluster status` says why, "
                         "`cluster submit` sends what is missing")
    print(summary({}, {}, params))


def _run(args, params):
    from ..cluster import run
    from ..runcache import commit_of
    run(params.root, args.stages, args.commit or commit_of(params.root))
