"""An interrupted training stops within a step, in a stage and in a notebook, and keeps its work."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from jupyter_client.manager import start_new_kernel

from promptstudy.features import extract
from promptstudy.params import load_params
from promptstudy.training import Stopped, side_by_side

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def endless(own_suite, tiny_backbone):
    """A suite whose two-shot training is short and whose one-shot training takes for ever."""
    path = own_suite / "params.yaml"
    path.write_text(path.read_text().replace(
        "schedule: {epochs: {1: 2, 2: 3}, batch_size: 8}\nkgcoop",
        "schedule: {epochs: {1: 1000000, 2: 2}, batch_size: 8}\nkgcoop"))
    params = load_params(path)
    pack = extract(params, "shapes", tiny_backbone, own_suite / "cache")
    pack.save(params.artefact("features", "shapes"))
    return own_suite


def wait_for_finished_setting(suite, process_is_alive):
    deadline = time.monotonic() + 120
    while not (kept := list((suite / ".work" / "coop" / "shapes").glob("few_shot*.safetensors"))):
        assert process_is_alive() and time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)  # into the long one
    return {path: path.read_bytes() for path in kept}


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_ends_within_seconds_and_keeps_finished_settings(endless, signal_number):
    shutil.copy(PROJECT / "dvc.yaml", endless)
    rwlock = endless / ".dvc" / "tmp" / "rwlock"  # as DVC notes it; this process plays DVC
    rwlock.parent.mkdir(parents=True)
    rwlock.write_text(json.dumps({"write": {"x": {"pid": os.getpid(), "cmd": "dvc repro"}}}))
    process = subprocess.Popen(
        [sys.executable, "-m", "promptstudy", "--params", endless / "params.yaml", "train", "coop",
         "--dataset", "shapes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=endless, env={**os.environ, "DVC_STAGE": "coop@shapes", "DVC_ROOT": str(endless)})
    kept = wait_for_finished_setting(endless, lambda: process.poll() is None)
    process.send_signal(signal_number)
    started = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 5
    assert process.returncode != 0 and "Traceback" not in errors
    if signal_number == signal.SIGINT:
        assert "train: interrupted after" in errors
    assert {path: path.read_bytes() for path in kept} == kept
    assert not (endless / "artefacts" / "coop").exists()


def test_interrupting_a_cell_stops_it_and_its_threads(endless):
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute(f"""
from promptstudy.params import load_params
from promptstudy.task import Task
from promptstudy.training import train_plan
train_plan(Task.load(load_params("{endless}/params.yaml"), "shapes"), "coop")""")
        kept = wait_for_finished_setting(endless, manager.is_alive)
        manager.interrupt_kernel()
        started = time.monotonic()
        reply = client.get_shell_msg(timeout=60)["content"]
        assert time.monotonic() - started < 5
        assert reply["status"] == "error" and reply["ename"] == "KeyboardInterrupt"
        client.execute("import threading; names = [t.name for t in threading.enumerate()]; "
                       "assert not any('ThreadPool' in name for name in names), names")
        assert client.get_shell_msg(timeout=60)["content"]["status"] == "ok"
        assert {path: path.read_bytes() for path in kept} == kept
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_what_runs_side_by_side_is_told_to_stop():
    stop, steps = threading.Event(), []

    def step_for_ever(number):
        if number == 0:
            time.sleep(0.2)
            signal.raise_signal(signal.SIGINT)
        while not stop.is_set():
            steps.append(number)
            time.sleep(0.01)
        raise Stopped

    with pytest.raises(KeyboardInterrupt):
        side_by_side(step_for_ever, range(4), torch.device("cpu"), stop)
    count = len(steps)
    time.sleep(0.1)
    assert len(steps) == count
