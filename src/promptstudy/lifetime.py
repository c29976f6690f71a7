"""A stage and the `dvc repro` that runs it: when it ends, what it ran, and how long it took."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from .dvcyaml import read_stages
from .errors import StageError
from .files import file_sha256

GRACE = 10  # seconds for a clean exit
RAN = Path(".work") / "stages.jsonl"  # one line per stage that has ended: name and seconds


def _workspace() -> Path:
    """The project in which DVC runs a stage.

    In the copies that experiments run in, DVC_ROOT names the project that was copied.
    """
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()),
                Path(os.environ["DVC_ROOT"]))


def run_own_code() -> None:
    """Start this process again with the code of the workspace in which DVC runs it as a stage.

    `dvc exp run --queue` and `--temp` run stages in copies of the project, but the environment's
    installed package is the project itself, whose code may have changed since. Kernels of notebooks
    inherit the setting. Outside a stage, or if the code is the workspace's own, nothing happens.
    """
    if "DVC_STAGE" not in os.environ:
        return
    own = (_workspace() / "src").resolve()
    path = os.environ.get("PYTHONPATH", "")
    if (not (own / __package__).is_dir() or Path(__file__).resolve().is_relative_to(own)
            or path.partition(os.pathsep)[0] == str(own)):
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(own), path]))
    os.execv(sys.executable, [sys.executable, "-m", __package__, *sys.argv[1:]])


def end_with_dvc() -> None:
    """End this process cleanly, within seconds, if the DVC that runs it as a stage ends.

    DVC's `rwlock` file names the process that runs a stage. It must be an ancestor of this one;
    if it is not, it was killed before this one started. A clean exit lets papermill stop its
    kernel. Outside a stage nothing is watched.
    """
    if "DVC_STAGE" not in os.environ:  # which DVC sets for a stage's command
        return
    owner = _owner()
    if owner is None:
        sys.exit("error: the DVC that started this stage has ended; run `make repro` again")

    main = threading.get_ident()

    def watch():
        with suppress(psutil.NoSuchProcess):
            while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
                time.sleep(1)
        signal.pthread_kill(main, signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)  # files are whole or absent, so nothing is lost

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=watch, daemon=True).start()


def _owner():
    """The DVC process that runs this stage, or None if it has ended."""
    ancestors = {process.pid: process for process in psutil.Process().parents()}
    path = _workspace() / ".dvc" / "tmp" / "rwlock"
    for _ in range(20):  # another DVC may be writing the file
        with suppress(OSError, ValueError, KeyError, AttributeError):
            writers = {info["pid"] for info in json.loads(path.read_text())["write"].values()}
            return next((ancestors[pid] for pid in writers if pid in ancestors), None)
        time.sleep(0.1)
    return None


@contextmanager
def stage_of_dvc() -> Iterator[None]:
    """Run the block as a stage: refuse code that changed meanwhile, and say how long it took.

    DVC records the code after a stage has ended. Raises `StageError` naming a file that was edited
    since the stage began, so that a result of old code is never taken for one of new code.
    Outside a stage the block just runs.
    """
    if "DVC_STAGE" not in os.environ:
        yield
        return
    name, root = os.environ["DVC_STAGE"], _workspace()
    started, before = time.monotonic(), _code(root, name)
    yield
    after = _code(root, name)
    edited = sorted(path for path in before.keys() | after.keys()
                    if before.get(path) != after.get(path))
    if edited:
        raise StageError(f"{', '.join(edited)} changed while stage {name} ran, so its result is "
                         "from the old code; run `make repro` again")
    _note(root, name, time.monotonic() - started)


def _code(root, name):
    """The SHA-256 of every code file and notebook that dvc.yaml names for a stage, by path."""
    named = [root / path for path in read_stages(root)[name.partition("@")[0]]["deps"]
             if path.startswith(("src/", "notebooks/"))]
    files = [path for place in named
             for path in ([place] if place.is_file() else sorted(place.rglob("*.*")))]
    return {path.relative_to(root).as_posix(): file_sha256(path) for path in files
            if path.is_file() and path.suffix != ".pyc"}


def _note(root, name, seconds):
    """Print how long a stage took, and record it for the summary of `repro`."""
    print(f"{name}: {seconds:.0f} s", flush=True)
    path = root / RAN
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as log:
        log.write(json.dumps({"stage": name, "seconds": seconds}) + "\n")
