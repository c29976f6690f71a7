"""A stage belongs to the DVC that runs it, and its result to the code that it began with."""

import json
import os
import subprocess
import sys

import pytest

from promptstudy import code
from promptstudy.errors import StageError
from promptstudy.lifetime import RAN, stage_of_dvc

DVC_YAML = """
stages:
  single: {cmd: x, deps: [data, src/one.py, src/folder, notebooks/n.ipynb]}
  each: {foreach: [a], do: {cmd: x, deps: [src/one.py]}}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    for file in ("src/one.py", "src/folder/two.css", "src/other.py", "notebooks/n.ipynb", "data"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("as it was")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_STAGE", "single")
    return tmp_path


@pytest.mark.parametrize("file", ["src/one.py", "src/folder/two.css", "notebooks/n.ipynb"])
def test_code_edited_while_its_stage_runs_fails_the_stage(project, file):
    with pytest.raises(StageError, match=f"{file} changed while stage single ran"):
        with stage_of_dvc():
            (project / file).write_text("edited")
    assert not (project / RAN).exists()


def test_a_stage_says_how_long_it_took_and_other_edits_do_not_matter(project, monkeypatch, capsys):
    with stage_of_dvc():
        (project / "src" / "other.py").write_text("edited")
    monkeypatch.setenv("DVC_STAGE", "each@a")
    with stage_of_dvc():
        (project / "notebooks" / "n.ipynb").write_text("edited")
    assert capsys.readouterr().out == "single: 0 s\neach@a: 0 s\n"
    noted = [json.loads(line)["stage"] for line in (project / RAN).read_text().splitlines()]
    assert noted == ["single", "each@a"]


def test_outside_of_a_stage_nothing_is_checked_or_said(project, monkeypatch, capsys):
    monkeypatch.delenv("DVC_STAGE")
    with stage_of_dvc():
        (project / "src" / "one.py").write_text("edited")
    assert capsys.readouterr().out == "" and not (project / RAN).exists()


def run_stage(project, rwlock):
    """Run a stage's first step, `end_with_dvc`, with such a list of who runs what."""
    path = project / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    path.write_text(rwlock)
    return subprocess.run([sys.executable, "-c", "from promptstudy.lifetime import end_with_dvc; "
                           "end_with_dvc(); print('runs')"], capture_output=True, text=True)


def test_a_stage_runs_for_the_dvc_above_it(project):
    run = run_stage(project, json.dumps({"write": {"x": {"pid": os.getpid(), "cmd": "dvc"}}}))
    assert run.stdout == "runs\n"


@pytest.mark.parametrize("rwlock", [
    json.dumps({"write": {"x": {"pid": 2**22 + 1, "cmd": "dvc repro"}}, "read": {}}), "{}", "",
    '{"write": {"x": {"pi'])
def test_a_stage_whose_dvc_was_killed_before_it_began_does_not_run(project, rwlock):
    run = run_stage(project, rwlock)
    assert run.returncode == 1 and run.stdout == ""
    assert "the DVC that started this stage has ended" in run.stderr


def run_main(project, *path):
    """Run the command line as a stage, with this Python path; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "promptstudy", "--help"], cwd=project, text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, code.PACKAGE.parent]))})
    return done.stdout + done.stderr


def test_a_stage_runs_with_the_code_of_its_own_workspace(project, monkeypatch):
    """An experiment's copy of the project, when the environment has the project itself."""
    (project / ".dvc").mkdir()
    own = project / "src" / "promptstudy"
    assert "the DVC that started this stage" in run_main(project)  # there is no other package
    own.mkdir()
    (own / "__init__.py").touch()
    (own / "__main__.py").write_text("import os; print('own code', os.environ['PYTHONPATH'])")
    said = run_main(project)
    assert said.startswith(f"own code {project / 'src'}{os.pathsep}")
    monkeypatch.delenv("DVC_STAGE")
    assert "usage:" in run_main(project)
