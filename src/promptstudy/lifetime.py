"""A stage and the `dvc repro` that runs it: it ends with it, and says how long it took."""

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

RAN = Path(".work") / "stages.jsonl"  # a line for every stage that has ended: name and seconds


def end_with_dvc():
    """End this process within seconds, and in order, if the DVC that runs it as a stage ends.

    DVC notes in its `rwlock` file who runs a stage. That process must be an ancestor of this one;
    if it is not, it was killed before this one started. Ending in order lets papermill stop its
    kernel. Outside of a stage nothing is watched.
    """
    if "DVC_STAGE" not in os.environ:  # which DVC sets for a stage's command
        return
    owner = _owner()
    if owner is None:
        sys.exit("error: the DVC that started this stage has ended; run `make repro` again")

    def watch():
        with suppress(psutil.NoSuchProcess):
            while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
                time.sleep(1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=watch, daemon=True).start()


def _owner():
    """The DVC process that runs this stage, or None if it has ended."""
    ancestors = {process.pid: process for process in psutil.Process().parents()}
    path = Path(os.environ["DVC_ROOT"]) / ".dvc" / "tmp" / "rwlock"
    for _ in range(20):  # another DVC may be writing the file
        with suppress(OSError, ValueError, KeyError, AttributeError):
            writers = {info["pid"] for info in json.loads(path.read_text())["write"].values()}
            return next((ancestors[pid] for pid in writers if pid in ancestors), None)
        time.sleep(0.1)
    return None


def note_stage(started, name):
    """Say in one line how long a stage took, and note it for the summary of `repro`."""
    seconds = time.monotonic() - started
    print(f"{name}: {seconds:.0f} s", flush=True)
    path = Path(os.environ["DVC_ROOT"]) / RAN
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as log:
        log.write(json.dumps({"stage": name, "seconds": seconds}) + "\n")
