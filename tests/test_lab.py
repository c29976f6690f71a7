"""JupyterLab beside the pipeline: reading, running and saving notebooks changes nothing of it."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

from promptstudy.lab import strip_outputs, stripped

PROJECT = Path(__file__).parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


def studied(notebook):
    """Leave in a notebook what running it in JupyterLab or another editor leaves."""
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"] |= {"collapsed": True, "execution": {"iopub.status.busy": "2026-01-01"},
                             "jp-MarkdownHeadingCollapsed": True, "trusted": True}
        if cell["cell_type"] == "code":
            cell["execution_count"] = number
            cell["outputs"] = [
                {"output_type": "stream", "name": "stdout", "text": "seen"},
                {"output_type": "execute_result", "execution_count": number, "metadata": {},
                 "data": {"text/plain": "1", "image/png": "aGVsbG8="}}]
    notebook["metadata"] |= {"language_info": {"name": "python", "version": "3.13.9"},
                             "widgets": {"application/vnd.jupyter.widget-state+json": {}}}
    notebook["metadata"]["kernelspec"] = {"name": "python3", "display_name": "my Python"}
    return notebook


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """A JupyterLab as `make lab` starts it, in a copy of the project; yields (request, folder)."""
    root = tmp_path_factory.mktemp("lab")
    shutil.copytree(PROJECT / "notebooks", root / "notebooks",
                    ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(PROJECT / ".jupyter", root / ".jupyter")
    server_info = root / "server"
    environment = {**os.environ, "JUPYTER_CONFIG_PATH": str(root / ".jupyter"),
                   "JUPYTER_RUNTIME_DIR": str(server_info), "PYTHONPATH": str(PROJECT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
         "--port=0", "--IdentityProvider.token=secret"], cwd=root, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (found := list(server_info.glob("jpserver-*.json"))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    url = json.loads(found[0].read_text())["url"]

    def request(path, content=None):
        data = None if content is None else json.dumps(content).encode()
        asked = urllib.request.Request(url + path, data, method="PUT" if data else "GET", headers={
            "Authorization": "token secret", "Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as reply:
            return json.load(reply)

    while True:  # the file is written before the server listens
        try:
            request("api/contents")
            break
        except urllib.error.URLError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    yield request, root
    process.terminate()
    process.wait(timeout=30)


def test_lab_shows_the_whole_project(jupyter):
    request, root = jupyter
    assert "notebooks" in {entry["name"] for entry in request("api/contents")["content"]}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_that_was_run_and_saved_in_lab_is_the_same_file(jupyter, path):
    request, root = jupyter
    file = f"api/contents/notebooks/{path.name}"
    model = request(file)
    model["content"] = studied(model["content"])
    request(file, model)
    assert (root / "notebooks" / path.name).read_bytes() == path.read_bytes()
    model["content"]["cells"][1]["source"] += "\nanother = 1"
    request(file, model)
    assert "another = 1" in (root / "notebooks" / path.name).read_text()


def test_other_files_are_stored_as_they_are(jupyter):
    request, root = jupyter
    request("api/contents/note.txt", {"type": "file", "format": "text", "content": "hello"})
    assert (root / "note.txt").read_text() == "hello"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_another_editor_has_stored_is_stripped(tmp_path, path):
    copy = tmp_path / path.name
    copy.write_text(json.dumps(studied(json.loads(path.read_text()))))
    assert strip_outputs(tmp_path) == [copy]
    assert copy.read_bytes() == path.read_bytes()
    assert strip_outputs(tmp_path) == []


def test_code_prose_and_tags_stay():
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"], "scrolled": True})])
    kept = stripped(notebook)
    assert [cell.source for cell in kept.cells] == ["# Title", "x = 1"]
    assert kept.cells[1].metadata == {"tags": ["parameters"]}
