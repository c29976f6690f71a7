"""Faults put into the tiny project of the tests: what is noticed, what comes back, what is lost.

    python benchmarks/faults.py [--rounds 24] [--flips 4] [--seed 0] [--only KIND]
        [--pipeline] [--project DIR]

KIND is kill, rwlock, lock, cache, flip or twice. It prints a line for each fault and at the end a
table: kind of fault, how many were injected and how many noticed (the command failed; a flipped
bit: DVC lists the file as changed, or reading it is refused), of these refused by the file's name,
how often the next `python -m promptstudy repro` gave the same bytes, what was lost, processes that
were left after five seconds and half-written files that were left after that next command. It ends
with 1 if anything was lost. A round takes half a minute; DIR keeps the tiny project, which takes
two minutes.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_project import dvc, environment, make_project

from promptstudy import repro
from promptstudy.errors import UserError
from promptstudy.files import PART
from promptstudy.params import load_params

MARK = "PROMPTSTUDY_FAULT"  # an environment variable that tells the processes of a round
PATIENCE = 5  # seconds after which no process of a killed run may be left
DVC_START = 3  # about how many seconds DVC takes to start a stage
REPRO = [sys.executable, "-m", "promptstudy", "repro"]


class Outcome(NamedTuple):
    """What became of one fault; `recovered` is None where nothing was to come back."""

    kind: str
    what: str
    noticed: bool
    recovered: bool | None = None
    refused: bool | None = None
    orphans: int = 0
    stray: int = 0
    message: str = ""

    @property
    def lost(self):
        """Was it used unnoticed, or did the results not come back?"""
        return self.recovered is False or not self.noticed and self.recovered is None


class Project:
    """A tiny project after a whole `dvc repro`, whose bytes are the reference."""

    def __init__(self, root):
        self.root, self.params = root, load_params(root / "params.yaml")
        self.seconds = repro.ran(root)
        definition = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
        self.stages = sorted(
            stage for stage in yaml.safe_load((root / "dvc.lock").read_text())["stages"]
            if not definition[stage.partition("@")[0]].get("frozen"))  # which never run
        self.reference = self.results()

    def results(self):
        """Return the bytes of everything that the pipeline has made, {path: bytes}."""
        made = [*(self.root / "artefacts").rglob("*"), *(self.root / "reports").glob("*.*"),
                *(self.root / "reports" / "figures").glob("*.*")]
        return {path.relative_to(self.root): path.read_bytes() for path in made
                if path.is_file() and not path.name.startswith(PART)}

    def differing(self):
        """Return what is not as it was."""
        now = self.results()
        return [str(path) for path in sorted(now.keys() | self.reference.keys())
                if now.get(path) != self.reference.get(path)]

    def stray(self):
        """Return half-written files, and DVC's list of who uses what if it is damaged."""
        left = [path for folder in ("artefacts", "data", "reports", ".work", "llm")
                for path in (self.root / folder).rglob(f"{PART}*")]
        try:
            json.loads(self.rwlock.read_text())
        except FileNotFoundError:
            pass
        except ValueError:
            left.append(self.rwlock)
        return left

    @property
    def rwlock(self):
        return self.root / ".dvc" / "tmp" / "rwlock"

    def command(self, *words, **more):
        """Run a command in the project; return its exit status and what it printed."""
        run = subprocess.run(words, cwd=self.root, env=environment(self.root, **more), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return run.returncode, run.stdout

    def recover(self, *arguments):
        """Run the next command: `(recovered, stray files, message)`."""
        status, output = self.command(*REPRO, *(["--", *arguments] if arguments else []))
        differing = self.differing()
        message = f"ended with {status}: {output[-1500:]}" if status else ", ".join(differing)
        return not message, len(self.stray()), message

    def changed(self):
        """Return what DVC lists as changed, as text."""
        status, output = self.command("dvc", "status")
        assert status == 0, output
        return output


# --- kills -----------------------------------------------------------------------------------

GROUP = {"group SIGKILL": signal.SIGKILL, "group SIGINT": signal.SIGINT,
         "group SIGTERM": signal.SIGTERM}
VICTIMS = ("dvc SIGKILL", "stage SIGKILL", *GROUP, "kernel SIGKILL")
COMMANDS = {"stage SIGKILL": "promptstudy", "kernel SIGKILL": "ipykernel_launcher"}


def of_round(mark, module=None):
    """Return the living processes of a round; `module`: those of `python -m module` alone."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE \
                    and (module is None or process.cmdline()[1:3] == ["-m", module]):
                found.append(process)
    return found


def wait_for(condition, seconds):
    """Wait until `condition()` is true; return what it gave last."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


def strike(run, victim, mark):
    """Kill; return whether there was anything to kill."""
    if run.poll() is not None:
        return False
    if victim in GROUP:
        os.killpg(run.pid, GROUP[victim])
        return True
    targets = of_round(mark, COMMANDS[victim]) if victim in COMMANDS else [psutil.Process(run.pid)]
    for process in targets:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(targets)


def interrupted(project, stage, victim, delay, early, mark):
    """Force a stage and kill: the exit status, how many were left, or None if it was over before.

    early: the delay counts from the first process of the stage, else from DVC's start.
    """
    run = dvc(project.root, "repro", "--force", "--single-item", stage, **{MARK: mark})
    began = COMMANDS.get(victim) or (early and "promptstudy")
    if began:
        wait_for(lambda: run.poll() is not None or of_round(mark, began), 120)
    time.sleep(delay)
    struck = strike(run, victim, mark)
    if not struck:
        run.communicate()
        return None
    wait_for(lambda: not of_round(mark) and run.poll() is not None, PATIENCE)
    left = of_round(mark)
    wait_for(lambda: not of_round(mark), 60)
    run.stdout.close()
    return run.wait(), len(left)


def kill(project, number, rng, victim, early):
    """One round: kill something at some moment, then run the next command."""
    stages = [stage for stage in project.stages
              if victim != "kernel SIGKILL" or has_kernel(project, stage)]
    stage = rng.choice(stages)
    whole = project.seconds.get(stage, 5) + (0 if victim in COMMANDS else DVC_START)
    for attempt in range(5):
        delay = rng.uniform(0, 1 if early else whole) / 2 ** attempt
        result = interrupted(project, stage, victim, delay, early, f"{number}.{attempt}")
        if result is not None:
            break
    else:
        raise RuntimeError(f"{stage} is always over before it is killed")
    status, orphans = result
    train_again = rng.random() < 0.5  # else DVC takes what was once made out of its cache
    recovered, stray, message = project.recover(*["--no-run-cache"] * train_again)
    return Outcome(victim, f"{stage} after {delay:.2f} s{' of the stage' if early else ''}"
                   f"{', made again' if train_again else ''}", status != 0, recovered,
                   orphans=orphans, stray=stray, message=message)


def has_kernel(project, stage):
    """Is a stage a notebook?"""
    return "notebook" in yaml.safe_load((project.root / "dvc.lock").read_text())[
        "stages"][stage]["cmd"].split()


# --- DVC's own files ---------------------------------------------------------------------------

def cut(content, rng):
    return content[:rng.randrange(1, len(content) - 1)]


def flipped(content, rng):
    """Return bytes with one bit the other way round."""
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1:]


DAMAGE = {"empty": lambda content, rng: b"", "cut": cut, "flipped": flipped,
          "zeros": lambda content, rng: bytes(len(content))}


def damage_rwlock(project, how, rng):
    """Damage DVC's list of who uses which file, as a run that was killed left it."""
    nobody = {"pid": 99999999, "cmd": "dvc repro"}
    path = str(project.root / "artefacts" / "coop" / "shapes.safetensors")
    whole = json.dumps({"write": {path: nobody}, "read": {str(project.root / "data"): [nobody]}})
    project.rwlock.write_bytes(DAMAGE[how](whole.encode(), rng))
    status, output = project.command("dvc", "repro")
    recovered, stray, message = project.recover()
    return Outcome(f"rwlock {how}", "", status != 0, recovered, "rwlock" in output.lower(),
                   stray=stray, message=message)


def damage_lock(project, how, rng):
    """Damage dvc.lock, which a kill can cut while DVC writes it."""
    path = project.root / "dvc.lock"
    whole = path.read_bytes()
    try:
        path.write_bytes(DAMAGE[how](whole, rng))
        status, output = project.command(*REPRO)
        refused = status != 0 and "dvc.lock" in output and "Traceback" not in output
        message = output[-1500:] if status and not refused else ""
    finally:
        path.write_bytes(whole)
    recovered, stray, more = project.recover()
    return Outcome(f"dvc.lock {how}", "", bool(status) or "stages ran" in output,
                   recovered and not message, refused, stray=stray, message=message or more)


def damage_cache(project, rng):
    """Flip a bit of an artefact in DVC's cache, as a bad disk does, and delete the artefact."""
    made = rng.choice(sorted((project.root / "artefacts").glob("*/*")))
    path = in_cache(project.root, made)
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(flipped(path.read_bytes(), rng))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(before.st_mode)
    made.unlink()
    recovered, stray, message = project.recover()
    return Outcome("bit: DVC's cache", str(made.relative_to(project.root)), recovered,
                   recovered and in_cache(project.root, made).is_file(), stray=stray,
                   message=message)


def in_cache(root, path):
    """Where DVC's cache has the content of a file."""
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    return root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]


# --- flipped bits ------------------------------------------------------------------------------

def artefacts(project):
    """Return the kinds of files that stages make, {kind: (path, how it is read or None)}."""
    from promptstudy.datasets.packs import FeaturePack
    from promptstudy.files import load_tensors
    from promptstudy.llm.descriptions import load_descriptions
    from promptstudy.results import read_results
    made = project.root / "artefacts"
    names = FeaturePack.load(made / "features" / "shapes.safetensors").class_names
    learned = {method: (made / method / "shapes.safetensors", load_tensors)
               for method in (*project.params.methods, "linear_probe")}
    return {
        "features": (made / "features" / "shapes.safetensors", FeaturePack.load),
        "backbones JSON": (made / "backbones" / "shapes.json", None),
        "descriptions": (made / "descriptions" / "shapes.json",
                         lambda path: load_descriptions(project.params, "shapes", names)),
        **learned,
        "shifted": (made / "shifted" / "lines.safetensors", FeaturePack.load),
        "results.csv": (project.root / "reports" / "results.csv", read_results),
        "params.schema.json": (made / "params.schema.json", None)}


def inputs(project):
    """Return the kinds of files that stages are given, as `artefacts` does."""
    from promptstudy.clip.backbone import load_backbone
    from promptstudy.datasets.splits import SPLITS, load_dataset
    from promptstudy.llm.log import log_path, read_log
    from promptstudy.llm.queries import read_queries
    root, params = project.root, project.params

    def listing(dataset):  # what features record
        return dataset.class_names, [getattr(dataset, split) for split in SPLITS]

    split = listing(load_dataset(params, "figures"))
    log = log_path(params, "shapes")
    return {
        "reply log": (log, read_log),
        "reply log's digests": (log.with_name(f"{log.name}.sha256"), lambda path: read_log(log)),
        "CLIP's weights": (root / "data" / "clip" / "open_clip_model.safetensors",
                           lambda path: load_backbone(params.backbone.name, root=root)),
        "CLIP's build.json": (root / "data" / "clip" / "build.json",
                              lambda path: load_backbone(params.backbone.name, root=root)),
        "CLIP's config": (root / "data" / "clip" / "open_clip_config.json", None),
        "split JSON": (root / "images" / "figures" / "split_zhou_Figures.json",
                       lambda path: listing(load_dataset(params, "figures")) != split),
        "queries.yaml": (root / "llm" / "queries.yaml", lambda path: read_queries(params))}


def reading(path, read):
    """Read a file whose bit is flipped: `(refused by name?, noticed?, what is wrong with that)`.

    `read` returns True if what it read is not what the artefacts record.
    """
    if read is None:
        return None, False, ""
    try:
        return False, read(path) is True, ""
    except UserError as error:
        named = path.stem in str(error)
        return named, True, "" if named else f"does not name {path.name}: {error}"
    except Exception as error:  # not a message that a user can do something with
        return False, True, f"{type(error).__name__}: {error}"


def listed(path, root, changed):
    """Does DVC list a file, or the folder that it depends on, as changed?"""
    path = path.relative_to(root)
    return any(str(part) in changed.split() for part in (path, *path.parents[:-1]))


def flip_artefacts(project, rng):
    """Flip a bit in every kind of artefact, read each, and bring all up to date."""
    kinds = artefacts(project)
    for path, _ in kinds.values():
        path.chmod(0o644)
        path.write_bytes(flipped(path.read_bytes(), rng))
    read = {kind: reading(path, read) for kind, (path, read) in kinds.items()}
    changed = project.changed()
    recovered, stray, lost = project.recover()
    found = []
    for kind, (refused, noticed, wrong) in read.items():
        noticed = noticed or listed(kinds[kind][0], project.root, changed)
        found.append(Outcome(f"bit: {kind}", "", noticed, recovered and not wrong, refused,
                             stray=stray, message=wrong or lost))
    return found


def flip_input(project, kind, path, read, rng, bring_up=False):
    """Flip a bit in an input and read it; with `bring_up` also run the pipeline on it and after."""
    whole, output = path.read_bytes(), ""
    try:
        path.write_bytes(flipped(whole, rng))
        refused, noticed, message = reading(path, read)
        noticed = noticed or listed(path, project.root, project.changed())
        if bring_up:
            status, output = project.command(*REPRO)
            if "Traceback" in output and not message:
                message = output[-1500:]
            noticed = noticed or bool(status) or "stages ran" in output
    finally:
        path.write_bytes(whole)
    recovered, more = None, ""
    if bring_up:
        recovered, _, more = project.recover()
    if message:
        recovered = False
    return Outcome(f"bit: {kind}", "", noticed, recovered, refused, message=message or more)


def flip_pack(project, rng, folder):
    """Flip a bit in a copy of a feature pack and read it."""
    from promptstudy.datasets.packs import FeaturePack
    source = project.root / "artefacts" / "features" / "shapes.safetensors"
    path = Path(folder) / "shapes.safetensors"
    path.write_bytes(flipped(source.read_bytes(), rng))
    refused, noticed, message = reading(path, FeaturePack.load)
    return Outcome("bit: pack", "", noticed, False if message else None, refused, message=message)


# --- two at once ---------------------------------------------------------------------------------

def twice(project, *second):
    """Start a second command while a stage runs: it must say so and end, and the first go on."""
    first = dvc(project.root, "repro", "--force", "--single-item",  # several, so that it lasts
                "coop@shapes", "dualpt@shapes", "dualview@shapes", "aape@shapes", **{MARK: "2"})
    wait_for(lambda: first.poll() is not None or of_round("2", "promptstudy"), 120)
    status, output = project.command(*second)
    beside = first.poll() is None
    printed, _ = first.communicate()
    said = status != 0 and "Traceback" not in output and any(
        word in output for word in ("busy", "is running", "lock"))
    recovered, stray, message = project.recover()
    recovered = recovered and first.returncode == 0 and (said or not beside)
    return Outcome(f"twice: {' '.join(second[-2:])}", "" if beside else "one after the other",
                   said, recovered, stray=stray,
                   message=message or ("" if recovered else output[-1500:] + printed[-500:]))


# --- all of it -----------------------------------------------------------------------------------

def outcomes(project, rounds, flips, rng, only=None, pipeline=False):
    """Yield the `Outcome` of fault after fault."""
    if only in (None, "kill"):
        for number in range(rounds):
            turn, place = divmod(number, len(VICTIMS))
            yield kill(project, number, rng, VICTIMS[place], early=turn % 4 == 0)
    if only in (None, "rwlock"):
        for how in list(DAMAGE) * max(1, flips // 2):
            yield damage_rwlock(project, how, rng)
    if only in (None, "lock"):
        for how in DAMAGE:
            yield damage_lock(project, how, rng)
    if only in (None, "cache"):
        for _ in range(flips):
            yield damage_cache(project, rng)
    if only in (None, "twice"):
        yield twice(project, "dvc", "repro")
        yield twice(project, *REPRO)
    if only in (None, "flip"):
        for _ in range(flips):
            yield from flip_artefacts(project, rng)
        for kind, (path, read) in inputs(project).items():
            for number in range(flips):
                yield flip_input(project, kind, path, read, rng, pipeline and number == 0)
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(flips):
                yield flip_pack(project, rng, folder)


def table(found):
    """Return the lines of the table."""
    kinds = {}
    for outcome in found:
        kinds.setdefault(outcome.kind, []).append(outcome)
    lines = [f"{'kind of fault':34} injected noticed by name same bytes lost orphans stray"]
    for kind, of_kind in kinds.items():
        tried = [o.recovered for o in of_kind if o.recovered is not None]
        named = [o.refused for o in of_kind if o.refused is not None]
        lines.append(f"{kind:34} {len(of_kind):8} {sum(o.noticed for o in of_kind):7} "
                     f"{sum(named) if named else '-':>7} "
                     f"{f'{sum(tried)}/{len(tried)}' if tried else '-':>10} "
                     f"{sum(o.lost for o in of_kind):4} {sum(o.orphans for o in of_kind):7} "
                     f"{sum(o.stray for o in of_kind):5}")
    return lines


def main():
    """Make the project, put faults into it, print."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24,
                        help="kills; a quarter of 24 in a stage's first second")
    parser.add_argument("--flips", type=int, default=4, help="flipped bits of every kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["kill", "rwlock", "lock", "cache", "flip", "twice"])
    parser.add_argument("--pipeline", action="store_true", help="also run all that depends on an "
                        "input with a flipped bit, once for every kind; half an hour")
    parser.add_argument("--project", type=Path, help="folder to keep the tiny project in")
    args = parser.parse_args()
    folder = args.project or Path(tempfile.mkdtemp())
    try:
        project = Project(at_hand(folder))
        found = []
        for outcome in outcomes(project, args.rounds, args.flips, random.Random(args.seed),
                                args.only, args.pipeline):
            found.append(outcome)
            said = "LOST" if outcome.lost else "noticed" if outcome.noticed else "no harm"
            print(f"{outcome.kind}: {outcome.what} {said} {outcome.orphans or ''} "
                  f"{outcome.message}", flush=True)
        print("\n".join(table(found)))
    finally:
        if args.project is None:
            shutil.rmtree(folder)
    return any(outcome.lost for outcome in found)


def at_hand(folder):
    """Return the tiny project in a folder, made if it is not there."""
    from conftest import make_suite
    root = folder / "clone"
    if not (root / "reports" / "index.html").is_file():
        (folder / "suite").mkdir(parents=True)
        make_suite(folder / "suite")
        make_project(root, folder / "suite")
    return root


if __name__ == "__main__":
    sys.exit(main())
