"""The notebooks as essays: their form, and how they are run and rendered."""

import re
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from bs4 import BeautifulSoup
from hostile import HOSTILE, NAMES

from promptstudy.errors import NotebookError
from promptstudy.notebooks import notebook_html, run_notebook

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_opens_with_a_title_and_one_sentence(notebook):
    lines = [line for line in notebook.cells[0].source.splitlines() if line]
    assert lines[0].startswith("# ") and lines[1].startswith("> ")


def test_has_a_parameters_cell_with_one_assignment_a_line(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert all("=" in line or line.startswith("import") for line in tagged[0].source.splitlines())


def test_is_kept_without_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None


def test_defines_no_class_and_keeps_cells_short(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not re.search(r"^\s*class ", cell.source, re.M)
            assert len(cell.source.splitlines()) <= 15


def test_ends_with_asserts(notebook):
    assert "assert " in notebook.cells[-1].source


def small_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell("value = 1", metadata={"tags": ["parameters"]}),
             *(nbformat.v4.new_code_cell(source) for source in sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_unknown_parameter_is_refused_before_anything_runs(tmp_path):
    path = small_notebook(tmp_path / "n.ipynb")
    with pytest.raises(ValueError, match="no parameter 'vlaue'; it has value"):
        run_notebook(path, {"vlaue": 2}, tmp_path / "executed.ipynb", tmp_path / "page.html")
    assert not (tmp_path / "executed.ipynb").exists()


def test_failing_cell_leaves_a_readable_copy_and_no_page(tmp_path):
    path = small_notebook(tmp_path / "n.ipynb", "1 / 0")
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        run_notebook(path, {}, tmp_path / "executed.ipynb", tmp_path / "page.html")
    executed = nbformat.read(tmp_path / "executed.ipynb", as_version=4)
    assert any("ZeroDivisionError" in str(cell.get("outputs")) for cell in executed.cells)
    assert not (tmp_path / "page.html").exists()


def test_an_error_that_the_user_can_mend_is_one_message(tmp_path):
    path = small_notebook(tmp_path / "n.ipynb",
                          "from promptstudy.errors import DatasetError\n"
                          "raise DatasetError('no images in cats; add some')")
    with pytest.raises(NotebookError, match=r"^n\.ipynb: no images in cats; add some$"):
        run_notebook(path, {}, tmp_path / "executed.ipynb", tmp_path / "page.html")


def test_the_kernel_is_this_interpreter_whatever_the_user_has_installed(tmp_path, monkeypatch):
    own = tmp_path / "share" / "kernels" / "python3"
    own.mkdir(parents=True)
    (own / "kernel.json").write_text('{"argv": ["false"], "display_name": "x", "language": "x"}')
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "share"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    path = small_notebook(tmp_path / "n.ipynb", "import sys; print(sys.executable)")
    run_notebook(path, {}, tmp_path / "out" / "executed.ipynb", tmp_path / "page.html")
    assert sys.executable in (tmp_path / "page.html").read_text()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["executed.ipynb"]


def test_page_is_equal_for_equal_results_and_draws_equations_itself(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# Title\n\nWith $\\frac{a}{b}$ and `$PATH`."),
        nbformat.v4.new_code_cell("1", outputs=[
            nbformat.v4.new_output("stream", name="stderr", text="12 s"),
            nbformat.v4.new_output("stream", name="stdout", text="kept")])])
    page = notebook_html(notebook, "n")
    assert "<mfrac>" in page and "$PATH" in page
    assert "kept" in page and "12 s" not in page
    notebook.cells[0].id = "another"
    assert notebook_html(notebook, "n") == page
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)
                                 for text in ("ke", "pt")]  # as a busy kernel may send it
    assert notebook_html(notebook, "n") == page


def test_a_notebook_s_title_and_note_are_text():
    for text in HOSTILE:
        cells = [nbformat.v4.new_markdown_cell("no heading")]
        page = notebook_html(nbformat.v4.new_notebook(cells=cells), text, note=f"note {text}")
        found = BeautifulSoup(page, "html.parser")
        assert found.title.text == text and found.find(class_="note").text == f"note {text}"
        assert not found.main.find_all(["script", "img", "b"])
        cells[0].source = f"# {text}"  # whose own HTML stays HTML, but not in the title
        page = notebook_html(nbformat.v4.new_notebook(cells=cells), "name")
        assert BeautifulSoup(page, "html.parser").title.text == text


def test_what_notebooks_print_show_and_draw_is_text(tmp_path):
    """With a real kernel, whose displays are pandas' and whose pictures are matplotlib's."""
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in (
        ("names = []", ["parameters"]),
        ("import matplotlib.pyplot as plt, pandas as pd\nimport promptstudy.plots.style", []),
        ("print(*names)", []),
        ("names", []),
        ("{name: name for name in names}", []),
        ("pd.Series(names, index=names)", []),
        ("pd.DataFrame({'class': names}, index=pd.Index(names, name=names[0]))", []),
        ("pd.DataFrame([range(len(names))], columns=pd.Index(names, name=names[1]))", []),
        ("figure, axis = plt.subplots()\naxis.barh(names, range(len(names)), label=names[4])\n"
         "axis.set(title=names[4], xlabel=names[-2])\naxis.legend();", []))]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    run_notebook(path, {"names": NAMES}, tmp_path / "executed.ipynb", tmp_path / "n.html")
    page = (tmp_path / "n.html").read_text()
    found = BeautifulSoup(page, "html.parser")
    assert len(found.find_all("table")) == 2
    for text in NAMES:
        assert "<" not in text or text not in page
        assert found.get_text().count(text) >= 3
        assert sum(cell.text == text for cell in found.find_all(["th", "td"])) >= 3
    assert not found.main.find_all(["script", "b"]) and not found.find_all(onerror=True)
    figure, = found.find_all("svg")
    assert all(text in figure.get_text() for text in NAMES)
    assert NAMES[4] in figure["aria-label"]
