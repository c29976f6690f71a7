"""The pipeline on the tiny suite: `dvc repro`, again, forced, and after being killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from promptstudy.results import COLUMNS, read_results

PROJECT = Path(__file__).parents[1]
BIN = str(Path(sys.executable).parent)
ENVIRONMENT = {**os.environ, "PATH": BIN + os.pathsep + os.environ["PATH"]}


def dvc(project, *arguments, environment=ENVIRONMENT):
    """Start a dvc command in a project, in its own session."""
    return subprocess.Popen(["dvc", *arguments], cwd=project, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True)


def session_members(session):
    """Return the ids of the processes that are still alive in a session."""
    listing = subprocess.run(["pgrep", "-s", str(session)], capture_output=True, text=True)
    return listing.stdout.split()


def finish(process):
    """Wait for a command and return what it printed; fail the test if it failed."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-4000:]
    return output


@pytest.fixture(scope="module")
def project(tiny_suite, tmp_path_factory):
    """The project as cloned, with the tiny suite's params and data, after a first `dvc repro`."""
    root = tmp_path_factory.mktemp("project") / "clone"
    shutil.copytree(tiny_suite, root, ignore=shutil.ignore_patterns("artefacts", "reports"))
    for folder in ("notebooks", "src"):
        shutil.copytree(PROJECT / folder, root / folder)
    shutil.copy(PROJECT / "dvc.yaml", root)
    (root / "reports").mkdir()
    (root / "reports" / "00_pocket_clip.html").write_text("the frozen stage's page")
    finish(dvc(root, "init", "--no-scm", "--quiet"))
    finish(dvc(root, "config", "core.analytics", "false"))
    finish(dvc(root, "repro"))
    return root


def test_every_stage_has_made_its_page_and_every_run_its_row(project):
    reports = project / "reports"
    assert {page.name for page in reports.glob("*.html")} >= {
        "index.html", "01_describe-shapes.html", "02_features-shapes.html",
        "03_coop-figures.html", "04_dualpt-shapes.html", "05_dualview-figures.html",
        "06_aape-figures.html", "07_evaluate.html", "08_figures.html", "papers.html"}
    results = read_results(reports / "results.csv")
    assert tuple(results.columns) == COLUMNS
    coop = results[(results["method"] == "coop") & (results["protocol"] == "few_shot")
                   & (results["variant"] == "M4")]
    assert len(coop) == 2 * 2 * 2  # datasets, shots, seeds
    dualpt = results[(results["method"] == "dualpt") & (results["protocol"] == "few_shot")
                     & (results["variant"] == "N2-M4")]
    assert len(dualpt) == len(coop)
    assert {"kgcoop", "prograd", "dualview"} <= set(results["method"])
    assert len(results.query("method == 'aape' and protocol == 'few_shot'")) == len(coop)
    retrieval = results.query("method == 'aape' and protocol == 'retrieval'")
    assert set(retrieval["dataset"]) == {"shapes", "figures", "pairs"}
    assert set(results.query("dataset == 'pairs'")["protocol"]) == {"retrieval"}
    assert "http" not in (reports / "index.html").read_text().replace("http://www.w3.org", "")


def test_a_second_run_does_nothing(project):
    output = finish(dvc(project, "repro"))
    assert "Running stage" not in output


def test_forcing_a_stage_gives_the_same_bytes(project):
    before = {path: path.read_bytes() for path in project.glob("reports/*.*")}
    before |= {path: path.read_bytes() for path in project.glob("artefacts/coop/*")}
    finish(dvc(project, "repro", "--force", "--single-item", "coop@shapes"))
    finish(dvc(project, "repro", "--force", "--single-item", "evaluate"))
    assert {path: path.read_bytes() for path in before} == before


# Python runs this at its start. It holds a stage where it puts the second of its finished pieces
# in place: a tiny stage would be over before it can be killed half-way.
HOLD = """
import os, sys, time

def hold(event, arguments):
    if event == "os.rename":
        folder, name = os.path.split(arguments[1])
        if folder == {folder!r} and any(piece.endswith(".safetensors") and piece != name
                                        for piece in os.listdir(folder)
                                        if not piece.startswith(".")):
            time.sleep(600)

sys.addaudithook(hold)
"""


# bash becomes the stage's command; Debian's sh stays between DVC and it, and outlives a killed DVC
@pytest.mark.parametrize("stage, shell", [("features", "/bin/sh"), ("coop", "/bin/bash"),
                                          ("dualpt", "/bin/sh"), ("dualview", "/bin/bash"),
                                          ("aape", "/bin/sh")])
def test_a_killed_run_leaves_nothing_behind_and_completes_with_the_same_bytes(project, stage,
                                                                              shell, tmp_path):
    made = project / "artefacts" / stage / "shapes.safetensors"
    before = made.read_bytes()
    shutil.rmtree(project / ".work")
    half_done = project / ".work" / stage / "shapes"
    (tmp_path / "sitecustomize.py").write_text(HOLD.format(folder=str(half_done)))
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    killed = dvc(project, "repro", "--force", "--single-item", f"{stage}@shapes",
                 environment={**ENVIRONMENT, "PYTHONPATH": path, "SHELL": shell})
    deadline = time.monotonic() + 240
    while not list(half_done.glob("[!.]*.safetensors")):  # the first finished piece
        assert killed.poll() is None, killed.communicate()[0][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    while orphans := session_members(killed.pid):
        assert time.monotonic() < deadline, orphans
        time.sleep(0.2)
    finish(dvc(project, "repro"))
    assert made.read_bytes() == before
    assert not half_done.exists()


def test_a_misspelt_key_stops_everything_within_five_seconds(project):
    params = project / "params.yaml"
    text = params.read_text()
    try:
        params.write_text(text.replace("batch_size: 8", "batchsize: 8"))
        started = time.monotonic()
        run = subprocess.run([sys.executable, "-m", "promptstudy", "check"], cwd=project,
                             capture_output=True, text=True)
        assert time.monotonic() - started < 5
        assert run.returncode != 0
        assert "coop.schedule.batchsize" in run.stderr and "'batch_size'" in run.stderr
    finally:
        params.write_text(text)


def test_every_notebook_passes_nbval(project):
    """The notebooks as a reader runs them; pocket CLIP's is in test_pocket.py."""
    notebooks = [path for path in sorted((project / "notebooks").glob("*.ipynb"))
                 if path.stem != "00_pocket_clip"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", *notebooks],
        env={**ENVIRONMENT, "PROMPTSTUDY_PARAMS": str(project / "params.yaml")}, cwd=project,
        capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]
