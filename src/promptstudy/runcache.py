"""Stages in folders of their own with one cache: what DVC's run cache has, how a job adds to it.

A stage that has run somewhere is in the run cache under what it was made from. Every folder of the
project that uses the same cache can take its results from there instead of running it.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import StageError, UserError
from .repro import readable_errors
from .suite import git

JOBS = Path(".work") / "cluster"  # what jobs write, below the project's folder
TEMPLATE = "cluster.sbatch"  # what jobs ask SLURM for; users edit it
LOCK_SECONDS = 300  # a file server may keep the lock of a dead node so long
# what git and DVC leave if they are killed in a job's folder, which has a lock of our own
LOCKS = (".git/*.lock", ".dvc/tmp/*lock")


@contextmanager
def opened(root: Path, cache: str | None = None) -> Iterator[Any]:
    """Yield DVC's `Repo` of the project at `root`; `cache` is the folder of another's cache.

    Raises `UserError` for what DVC cannot read, and if another DVC command is running there.
    """
    from dvc.repo import Repo
    logging.getLogger("dvc").setLevel(logging.WARNING)  # it would name every stage that it takes
    # a link where the file system has them: features are too large to be copied for every job
    config = {"cache": {"dir": cache, "type": ["reflink", "hardlink", "symlink", "copy"]}}
    with readable_errors(root), Repo(str(root), config=config if cache else None) as repo:
        yield repo


def missing(repo: Any, target: str | None = None) -> dict[str, list[str]]:
    """Take from the run cache what it has; return the stages that have to run, in DVC's order.

    Returns `{stage: [those of them whose outputs it reads]}`. Stages that are up to date are put
    into the run cache if they are not there, so that others can take them. With a `target`, which
    jobs give, only this stage and those that it needs are looked at, and tracked data that a killed
    job has left half made is replaced. Raises `UserError` for tracked data that has changed or is
    not in the cache.
    """
    from dvc.repo.reproduce import get_active_graph, plan_repro
    left: dict[str, list[str]] = {}
    with repo.lock:
        graph = get_active_graph(repo.index.graph)
        targets = repo.stage.collect(target) if target else None
        for stage in plan_repro(graph, targets):
            above = [needed.addressing for needed in graph.successors(stage)
                     if needed.addressing in left]
            if not stage.cmd:
                _take_data(stage, force=bool(target))
            elif above or not _at_hand(repo, stage):
                left[stage.addressing] = above
    return left


def _at_hand(repo, stage):
    """Is a stage up to date, if need be with what the cache has? What it reads is."""
    from dvc.stage.cache import RunCacheNotFoundError
    if stage.frozen:
        return True
    if not stage.changed():
        # DVC leaves out stages whose pages are in git (`cache: false`), unless it is told
        repo.stage_cache.save(stage)
        if not stage.outs_cached():
            stage.commit()
        return True
    if stage.changed_stage() or stage.changed_deps():
        stage.save_deps()
        for out in stage.outs:  # dvc.lock has those of the old dependencies
            out.hash_info = type(out.hash_info)()
    try:
        repo.stage_cache.restore(stage, dry=True)
    except RunCacheNotFoundError:
        return False
    stage.remove_outs()
    repo.stage_cache.restore(stage)
    stage.save()
    stage.commit()
    stage.dump(update_pipeline=False)
    return True


def _take_data(stage, force):
    """Give the data of a .dvc file its place in the folder, if need be by `force`."""
    from dvc.exceptions import DvcException
    file = stage.addressing
    if not stage.changed():
        return
    if not stage.outs_cached():
        raise UserError(f"the data of {file} is not in DVC's cache; run `dvc pull {file}` in the "
                        "project's folder")
    try:
        stage.checkout(force=force)
    except DvcException:
        raise UserError(f"the data of {file} has changed; keep it with `dvc commit {file}` and a "
                        f"git commit, or restore it with `dvc checkout --force {file}`") from None


def commit_of(root: Path) -> str:
    """Return the id of the last commit of the project, which jobs run.

    Raises `UserError` naming the files if params, code or notebooks are not as committed. Results
    may differ, for they come from the cache, and so may what jobs ask SLURM for.
    """
    status = git("status", "--porcelain", "--untracked-files=all", "--", ".", ":!reports",
                 ":!dvc.lock", f":!{TEMPLATE}", folder=root)
    changed = [line[3:] for line in status.splitlines()
               if line[:2] != "??" or line[3:].startswith(("src/", "notebooks/", "llm/"))]
    if changed:
        raise UserError(f"{', '.join(changed)}: not as in the last commit, which is what jobs run; "
                        "commit or restore them")
    return git("rev-parse", "HEAD", folder=root).strip()


def run_stage(root: Path, stage: str, commit: str) -> None:
    """Run a stage of a commit in a folder of its own, and put its results into the run cache.

    The folder is kept until the stage is done, so that the next try goes on from finished settings.
    Nothing runs if the cache has the results. Raises `StageError` if the stage fails, or if one
    that it needs is not in the cache.
    """
    folder = root / JOBS / stage
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_name(f"{stage}.lock"), timeout=LOCK_SECONDS):
            _clone(root, folder, commit)
            with opened(root) as main:
                cache = main.cache.local_cache_dir
            _run_in(folder, stage, cache)
            shutil.rmtree(folder)
    except Timeout:
        raise StageError(f"another job runs {stage} in {folder}; end one of them") from None


def _clone(root, folder, commit):
    """Give the clone in `folder` the files of that commit; what its last job has left stays."""
    sparse = folder / ".git" / "info" / "sparse-checkout"  # written last
    if not sparse.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        git("clone", "--quiet", "--shared", "--no-checkout", str(root), str(folder))
        git("sparse-checkout", "set", "--no-cone", "/*", "!/dvc-remote", folder=folder)
    for lock in (path for pattern in LOCKS for path in folder.glob(pattern)):
        lock.unlink()
    git("checkout", "--quiet", "--force", "--detach", commit, "--", folder=folder)


def _run_in(folder, stage, cache):
    from dvc.exceptions import DvcException
    with opened(folder, cache) as repo:
        left = missing(repo, stage)
        if any(name != stage for name in left):
            raise StageError(f"{stage} needs {next(iter(left))}, which is not in the cache; "
                             "`promptstudy cluster submit` sends what is missing")
        if left:
            try:
                repo.reproduce(stage, single_item=True)
            except DvcException as error:
                raise StageError(f"{stage}: {error.__cause__ or error}") from None
            repo.commit(stage, force=True)  # with the pages, as in `_at_hand`
        state = repo.site_cache_dir
    shutil.rmtree(state, ignore_errors=True)
