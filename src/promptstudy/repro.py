"""`make repro`: `dvc repro`, with repairs before it and a summary after it."""

import hashlib
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path

import psutil
from pandas import DataFrame

from .errors import UserError
from .files import PART
from .lifetime import RAN
from .params import Params
from .results import METHODS, average_over_datasets, main_rows, over_seeds, read_results


def sweep(root: Path) -> list[str]:
    """Remove what killed runs left behind; return the removed paths, relative to `root`.

    These are half-written files and temporary kernel folders of processes that have ended and, if
    no DVC runs here, a damaged `rwlock` file of DVC and the damaged files in its cache.
    """
    swept = []
    if not _dvc_runs(root):
        rwlock = root / ".dvc" / "tmp" / "rwlock"
        swept = [*([rwlock] if _damaged(rwlock) else []), *_damaged_in_cache(root)]
        for path in swept:
            path.unlink()
    for folder in ("artefacts", "data", "reports", ".work"):
        for path in sorted((root / folder).rglob(f"{PART}*")):
            writer = path.name.removeprefix(PART).partition("-")[0]
            if writer.isdigit() and not psutil.pid_exists(int(writer)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                swept.append(path)
    return [path.relative_to(root).as_posix() for path in swept]


def _damaged(rwlock):
    """Is there an `rwlock` file, DVC's list of who uses which file, that DVC cannot read?"""
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid
    try:
        SCHEMA(json.loads(rwlock.read_text()))
    except FileNotFoundError:
        return False
    except (ValueError, Invalid):
        return True
    return False


def _damaged_in_cache(root):
    """Return the files in DVC's cache whose MD5 is not the one in their name.

    DVC does not check: it would restore the same damaged file whenever its copy is deleted.
    Without the cached file, DVC runs the stage again.
    """
    damaged, cache = [], root / ".dvc" / "cache" / "files" / "md5"
    for path in sorted(cache.glob(f"??/{'[0-9a-f]' * 30}*")):  # folders are *.dir
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != path.parent.name + path.stem:
            damaged.append(path)
    return damaged


def _dvc_runs(root):
    """Does any DVC run in this project (in its folder or one below it)?"""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words, folder = process.info["cmdline"] or [], process.info["cwd"]
        if folder and Path(folder).is_relative_to(root) and any(
                Path(word).name == "dvc" for word in words[:3]):
            return True
    return False


def reasons(root: Path) -> dict[str, list[str]]:
    """Return why each stage is out of date, `{stage: [what has changed, ...]}`, as DVC sees it.

    Stages that depend on such a stage follow, `{stage: ["STAGE runs again"]}`, in DVC's order.
    Raises `UserError` if another DVC command is running here, and for files that DVC cannot read.
    """
    with readable_errors(root):
        return _reasons(root)


@contextmanager
def readable_errors(root: Path) -> Iterator[None]:
    """Run the block in `root`, where DVC looks for files, and raise `UserError` for DVC's errors.

    Such are another DVC command that is running here, and files that DVC cannot read.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    try:
        with chdir(root):
            yield
    except LockError as error:
        who = " ".join(str(error).partition("\n\n")[0].split())
        raise UserError(f"another DVC command is running in this project: {who}; run this one "
                        "again when it has ended") from None
    except DvcException as error:
        known = "; `git checkout dvc.lock` restores the last committed one"
        raise UserError(f"DVC cannot go on: {str(error).strip()}"
                        f"{known if 'dvc.lock' in str(error) else ''}") from None


def _reasons(root):
    import networkx
    from dvc.repo import Repo
    with Repo(str(root)) as repo:
        why = {name: _described(changes) for name, changes in repo.status().items()}
        order = [stage for stage in networkx.dfs_postorder_nodes(repo.index.graph)
                 if stage.is_data_source is False]
        for stage in order:
            first = next((needed.addressing for needed in repo.index.graph.successors(stage)
                          if needed.addressing in why and not needed.frozen), None)
            if first and stage.addressing not in why:
                why[stage.addressing] = [f"{first} runs again"]
        return {stage.addressing: why[stage.addressing] for stage in order
                if stage.addressing in why}


def _described(changes):
    """Return a line for each change that DVC's status reports for a stage."""
    lines = []
    for change in changes:
        if isinstance(change, str):  # such as "changed command"
            lines.append(change)
            continue
        for path, how in (item for paths in change.values() for item in paths.items()):
            values = how if isinstance(how, dict) else {path: how}  # of params.yaml, by key
            lines += [f"{name} {what}" for name, what in values.items()]
    return lines


def run(root: Path, arguments: list[str]) -> None:
    """Run `dvc repro` in `root` with further arguments; raise `UserError` if a stage fails.

    An interruption of this process ends DVC and its stages.
    """
    with subprocess.Popen(["dvc", "repro", *arguments], cwd=root) as process:
        try:
            process.wait()
        except BaseException:
            # a terminal sends Ctrl-C to all of them, but a signal may reach only this process
            for stage in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    stage.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
            process.kill()
            raise
    if process.returncode:
        raise UserError("a stage failed; its message is above. Finished stages are kept: fix the "
                        "cause and run `make repro` again")


def ran(root: Path) -> dict[str, float]:
    """Return the stages that have ended since the record was removed, {name: seconds}."""
    path = root / RAN
    lines = path.read_text().splitlines() if path.is_file() else []
    return {entry["stage"]: entry["seconds"] for entry in map(json.loads, lines)}


def summary(why: dict[str, list[str]], stages: dict[str, float], params: Params) -> str:
    """Return the closing message: which stages ran and why, the report, the main numbers."""
    lines = []
    for stage, seconds in stages.items():
        known = why.get(stage, ["asked for"])
        more = f" and {len(known) - 1} more" if len(known) > 1 else ""
        lines.append(f"  {stage}: {seconds:.0f} s ({known[0]}{more})")
    lines = [f"{len(stages)} stages ran:", *lines] if stages else ["everything was up to date"]
    reports = params.root / "reports"
    if (reports / "results.csv").is_file():  # absent before the first evaluation
        lines += [f"Report: {reports / 'index.html'}",
                  headline(read_results(reports / "results.csv"), params)]
    return "\n".join(lines)


def headline(results: DataFrame, params: Params) -> str:
    """Return one line with the mean test accuracy of zero-shot CLIP and of two methods."""
    few_shot = main_rows(results, params).query("protocol == 'few_shot'")
    means = over_seeds(average_over_datasets(few_shot))
    shots = max(params.shots)
    means = means[means["shots"].isin([0, shots])].drop_duplicates("method").set_index("method")
    shown = [method for method in METHODS if method in means.index
             and method in ("zero_shot", *params.methods)][:3]
    values = ", ".join(f"{METHODS[method]} {means['mean'][method]:.1f}" for method in shown)
    return (f"Accuracy in %, {shots} shots, mean over {few_shot['dataset'].nunique()} datasets: "
            f"{values}")
