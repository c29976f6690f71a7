"""The pipeline on the tiny suite: `dvc repro`, again, forced, and after being killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict

import pytest
import yaml
from tiny_project import PROJECT, dvc, environment, finish, session_members

from promptstudy import code
from promptstudy.files import PART
from promptstudy.params import load_params
from promptstudy.results import COLUMNS, KEY, read_results


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
    methods = load_params(project / "params.yaml").methods
    for protocol, subsets in (("cross_dataset", {"shapes", "figures"}),
                              ("domain", {"shapes", "original", "lines", "photos"})):
        rows = results[results["protocol"] == protocol]
        assert set(rows["dataset"]) == {"shapes"} and set(rows["subset"]) == subsets
        probes = {"linear_probe"} if protocol == "domain" else set()
        assert set(rows["method"]) == {"zero_shot", "ensemble", *methods} | probes
    for figure in ("cross_dataset", "domain"):
        assert (reports / "figures" / f"{figure}.png").is_file()
    assert "://" not in (reports / "index.html").read_text().replace("http://www.w3.org", "")


def witnessed(project):
    """Return what stages used, `{stage group: {"module" | "data" | "params": {name, ...}}}`."""
    used = defaultdict(lambda: defaultdict(set))
    for line in (project.parent / "witness.log").read_text().splitlines():
        stage, kind, what = line.split(" ", 2)
        used[stage.partition("@")[0]][kind].add(what)
    return used


def test_a_stage_uses_no_code_data_or_params_that_dvc_yaml_leaves_out(project):
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    used = witnessed(project)
    assert used.keys() == {name for name, stage in stages.items() if not stage.get("frozen")}
    for name, of in used.items():
        stage = stages[name].get("do", stages[name])
        declared = [project / path for path in stage["deps"] if path.startswith("src/")]
        files = {code._file(module) for module in of["module"]} - {None}
        files = {file for file in files if file.name != "__init__.py" or code.has_code(file)}
        # every block of params.yaml is loaded, and matters to those who read it, as tested below
        files = {file for file in files if file.parent.name != "methods"
                 or file.parent.parent.name != "params" or file.stem in (*of["params"], "__init__")}
        # every command declares its arguments at the start, whichever is called
        command = stage["cmd"].split()[3].replace("-", "_")
        files = {file for file in files
                 if file.parent.name != "commands" or file.stem == command}
        files = {project / file.relative_to(PROJECT) for file in files}
        files |= {project / "src" / "promptstudy" / path for path in of["data"]}
        assert files, name
        for file in files:
            assert any(file.is_relative_to(path) for path in declared), (name, file)
        if name != "check":  # which depends on the whole file
            params = {entry.partition(".")[0] for entry in stage["params"]}
            # that a block is absent is read too; `make stages` adds the entry with the block
            read = of["params"] & yaml.safe_load((project / "params.yaml").read_text()).keys()
            assert read <= params, (name, read - params)


def test_a_second_run_does_nothing(project):
    output = finish(dvc(project, "repro"))
    assert "Running stage" not in output


def repro(project):
    """Run `python -m promptstudy repro`, which `make repro` runs, and return what it prints."""
    run = subprocess.run([sys.executable, "-m", "promptstudy", "repro"], cwd=project,
                         env=environment(project), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return run.stdout


def test_make_repro_mends_what_a_killed_run_left_and_says_what_ran_and_why(project):
    rwlock = project / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text("")  # as a DVC that is killed while it writes leaves it
    stray = [project / "reports" / f"{PART}{2**22 + 1}-03_coop-x.ipynb",
             project / ".work" / f"{PART}{2**22 + 1}-kernel"]
    stray[0].write_text("{")
    stray[1].mkdir()
    notebook = project / "notebooks" / "03_coop.ipynb"
    kept = notebook.read_bytes()
    notebook.write_bytes(kept.replace(b'"outputs": []', b'"outputs": [{"output_type": "stream", '
                                      b'"name": "stdout", "text": "seen"}]', 1))
    said = repro(project)
    assert "removed .dvc/tmp/rwlock" in said and "stripped the outputs of 03_coop.ipynb" in said
    assert all(f"removed {path.relative_to(project)}" in said for path in stray)
    assert notebook.read_bytes() == kept and not any(path.exists() for path in stray)
    assert "everything was up to date" in said and "reports/index.html" in said
    assert re.search(r"2 shots, mean over 2 datasets: Zero-shot CLIP \d+\.\d, CoOp", said)

    claims = project / "src" / "promptstudy" / "claims" / "coop.py"
    text = claims.read_text()
    try:
        claims.write_text(text + "\n")
        said = repro(project)
    finally:
        claims.write_text(text)
    assert "2 stages ran:" in said
    assert re.search(r"figures: \d+ s \(src/promptstudy/claims modified\)", said)
    assert re.search(r"report: \d+ s \(src/promptstudy/claims modified", said)
    repro(project)


def test_a_change_of_predict_changes_the_rows_of_its_method_alone(project):
    results, path = (project / "reports" / "results.csv",
                     project / "src" / "promptstudy" / "methods" / "dualpt.py")
    before, text = read_results(results), path.read_text()
    scores = "scores = self.global_logits(features, classes)"
    changed = text.replace(scores, scores.replace("self", "-self"))
    assert changed != text
    bytes_before = results.read_bytes()
    try:
        path.write_text(changed)
        finish(dvc(project, "repro", "evaluate"))
        after = read_results(results)
    finally:
        path.write_text(text)
    assert before[list(KEY)].equals(after[list(KEY)])
    assert set(before["method"][before["value"] != after["value"]]) == {"dualpt"}
    finish(dvc(project, "repro"))
    assert results.read_bytes() == bytes_before


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
    killed = dvc(project, "repro", "--force", "--single-item", f"{stage}@shapes",
                 hook=tmp_path, SHELL=shell)
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
    # forced, as DVC would bring the file back out of its cache: it was made before
    finish(dvc(project, "repro", "--force", "--single-item", f"{stage}@shapes"))
    assert made.read_bytes() == before
    assert not half_done.exists()


def test_a_misspelt_key_stops_everything_within_five_seconds(project):
    params = project / "params.yaml"
    text = params.read_text()
    try:
        params.write_text(text.replace("batch_size: 8", "batchsize: 8"))
        started = time.monotonic()
        run = subprocess.run([sys.executable, "-m", "promptstudy", "check"], cwd=project,
                             env=environment(project), capture_output=True, text=True)
        assert time.monotonic() - started < 5
        assert run.returncode != 0
        assert "coop.schedule.batchsize" in run.stderr and "'batch_size'" in run.stderr
    finally:
        params.write_text(text)


def test_every_notebook_passes_nbval(project):
    """The notebooks as a reader runs them; frozen stages' have tests of their own."""
    notebooks = [path for path in sorted((project / "notebooks").glob("*.ipynb"))
                 if path.stem not in ("00_pocket_clip", "09_captioning")]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", *notebooks],
        env=environment(project, PROMPTSTUDY_PARAMS=str(project / "params.yaml")), cwd=project,
        capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]
