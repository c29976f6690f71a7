"""The pipeline on a SLURM cluster: a job for each stage that is missing, and what became of it."""

import platform
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

from .errors import MissingFile, StageError, UserError
from .files import write_text
from .runcache import JOBS, TEMPLATE, run_stage

SENT = "jobs"  # a line for each job that was sent: id, commit, stages
SCRIPT = "submit.sh"
TAIL = 12  # lines of a failed job's log


class Job(NamedTuple):
    """Stages that run in turn, and the stages of other jobs that have to end before."""

    stages: list[str]
    after: list[str]


def jobs_of(left: dict[str, list[str]], per_job: int = 1) -> list[Job]:
    """Return jobs of at most `per_job` stages each, in an order in which they can run.

    left: `{stage: [stages whose outputs it reads]}`. Stages of a job do not depend on each other.
    """
    depth: dict[str, int] = {}
    for stage, above in left.items():
        depth[stage] = 1 + max((depth.get(name, 0) for name in above), default=0)
    jobs = []
    for level in sorted(set(depth.values())):
        stages = [stage for stage in left if depth[stage] == level]
        for begin in range(0, len(stages), per_job):
            group = stages[begin:begin + per_job]
            jobs.append(Job(group, list(dict.fromkeys(sum((left[name] for name in group), [])))))
    return jobs


def script(root: Path, jobs: list[Job], commit: str, queued: dict[str, str]) -> str:
    """Return a shell script that sends the jobs of a commit and notes their ids.

    queued: `{stage: job id}` of those that were sent before. A job whose predecessor fails is
    cancelled by SLURM, so that nothing waits for ever.
    """
    ids = dict(queued)
    lines = ["#!/bin/sh", "# Written by `python -m promptstudy cluster submit`: sends the jobs and "
             f"notes their ids in {JOBS / SENT}.", "set -eu", f"cd {shlex.quote(str(root))}"]
    for number, job in enumerate(jobs):
        words = ["sbatch", "--parsable", f"--job-name={job.stages[0]}", f"--chdir={root}",
                 f"--output={JOBS}/%x-%j.log", "--open-mode=append", "--kill-on-invalid-dep=yes"]
        after = ":".join(dict.fromkeys(ids[stage] for stage in job.after))
        dependency = f'"--dependency=afterok:{after}" ' if after else ""
        stages = shlex.join(job.stages)
        lines += ["", f"job{number}=$({shlex.join(words)} {dependency}{TEMPLATE} "
                      f"--commit {commit} {stages})",
                  f"job{number}=${{job{number}%%;*}}",  # of several clusters one is named after it
                  f'echo "$job{number}" {commit} {stages} >> {JOBS / SENT}']
        ids |= dict.fromkeys(job.stages, f"${{job{number}}}")
    return "\n".join(lines) + "\n"


def submit(root: Path, left: dict[str, list[str]], commit: str, per_job: int = 1,
           send: bool = True) -> list[Job]:
    """Send the stages that are missing, except those in the queue; return the jobs.

    The script is written in any case. Raises `UserError` if jobs of another commit are in the
    queue or SLURM refuses a job; those sent before it stay, and are not sent again.
    """
    if not (root / TEMPLATE).is_file():
        raise MissingFile(f"{root / TEMPLATE} does not exist; `git checkout {TEMPLATE}` restores "
                          "it")
    waiting = _queued(root) if send else {}
    for stage, (job, of_commit, _) in waiting.items():
        if of_commit != commit:
            raise UserError(f"job {job} ({stage}) is of commit {of_commit[:7]}, not {commit[:7]}; "
                            "wait until the queue is empty, or cancel such jobs with `scancel`")
    jobs = jobs_of({stage: above for stage, above in left.items() if stage not in waiting}, per_job)
    path = root / JOBS / SCRIPT
    write_text(path, script(root, jobs, commit, {stage: job for stage, (job, _, _)
                                                 in waiting.items()}))
    if send:
        _output("sh", str(path))
    return jobs


def _output(*words):
    """Return what a command prints; raise `UserError` with its message."""
    try:
        run = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"there is no `{words[0]}` here; call this where SLURM is") from None
    if run.returncode:
        raise UserError(f"`{' '.join(words)}` failed: {run.stderr.strip()}")
    return run.stdout


def _sent(root):
    """Return the stages that were sent, `{stage: (job id, commit, first stage of the job)}`.

    Of several jobs of a stage the last one counts.
    """
    path = root / JOBS / SENT
    found: dict[str, tuple[str, str, str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        job, commit, *stages = line.split()
        found |= dict.fromkeys(stages, (job, commit, stages[0]))
    return found


def _queued(root):
    """Return the stages whose job waits or runs, `{stage: (job id, commit, SLURM's state)}`."""
    sent = _sent(root)
    if not sent:
        return {}
    states = {}
    for line in _output("squeue", "--me", "--noheader", "--format=%i|%T|%Z").splitlines():
        job, state, folder = line.split("|", 2)
        if folder == str(root):  # job ids begin anew some day
            states[job] = state
    return {stage: (job, commit, states[job]) for stage, (job, commit, _) in sent.items()
            if job in states}


class State(NamedTuple):
    """What became of a stage: its job, a word for it (see `states`), and the end of its log."""

    stage: str
    job: str
    word: str
    log: Path
    said: str


def states(root: Path) -> list[State]:
    """Return the state of every stage that was sent.

    It is `done`, `failed`, SLURM's word for a job in the queue, `killed` (its job has begun, and is
    gone) or `cancelled` (it has not begun). Raises `UserError` if nothing was sent.
    """
    queued, found = _queued(root), []
    for stage, (job, _, first) in _sent(root).items():
        log = root / JOBS / f"{first}-{job}.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        ended, said = _read(text, stage)
        word = queued[stage][2] if stage in queued else "killed" if text else "cancelled"
        if ended and word != "PENDING":  # a job that was sent back to the queue begins again
            word = ended
        lines = [line.rpartition("\r")[2] for line in said.rstrip().split("\n")]  # progress bars
        found.append(State(stage, job, word, log, "\n".join(lines[-TAIL:])))
    if not found:
        raise UserError("nothing was sent yet; `python -m promptstudy cluster submit` does")
    return found


def _read(log, stage):
    """Return how a stage in a job's log has ended, `done`, `failed` or None, and what it said.

    Of several tries the last counts. If it has not begun, the whole log is returned.
    """
    _, begun, said = log.rpartition(f"== {stage}: begins")
    if not begun:
        return None, log
    said = re.split(rf"(?m)^== (?!{re.escape(stage)}: )", said)[0]  # the next stage of the job
    ended = re.search(rf"(?m)^== {re.escape(stage)}: (done|failed)", said)
    return ended and ended[1], said


def run(root: Path, stages: list[str], commit: str) -> None:
    """Do what a job does: run its stages in turn (see `run_stage`), and say what became of each.

    Raises `StageError` at the end if a stage has failed.
    """
    failed = []
    for stage in stages:
        print(f"== {stage}: begins on {platform.node()}", flush=True)
        try:
            run_stage(root, stage, commit)
        except UserError as error:
            failed.append(stage)
            print(f"error: {error}\n== {stage}: failed", flush=True)
        else:
            print(f"== {stage}: done", flush=True)
    if failed:
        raise StageError(f"{', '.join(failed)}: failed; see above")
