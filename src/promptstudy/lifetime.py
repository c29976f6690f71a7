"""A stage ends with the `dvc repro` that started it, so that nothing writes behind its back."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress

import psutil


def end_with_dvc():
    """End this process within seconds, and in order, if the DVC that runs it as a stage ends.

    DVC runs a stage in a shell. Some systems' `sh` stays between the two and outlives a killed DVC,
    so the shell's own parent is watched as well. Ending in order lets papermill stop its kernel.
    Outside of a stage nothing is watched.
    """
    if "DVC_STAGE" not in os.environ:  # which DVC sets for a stage's command
        return
    shell = psutil.Process().parent()
    if shell is not None and "-c" not in shell.cmdline():
        shell = None  # it has become this process

    def lineage():
        return os.getppid(), shell and shell.ppid()

    def watch(started):
        with suppress(psutil.NoSuchProcess):
            while lineage() == started:
                time.sleep(1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=watch, args=[lineage()], daemon=True).start()
