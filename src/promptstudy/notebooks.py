"""Run a notebook as a pipeline stage: execute it with papermill, then render it as a page.

Beyond papermill: unknown parameters are refused (papermill only warns), files are written whole,
the kernel is this interpreter, and errors that the user can fix are told apart from bugs.
"""

import os
import re
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from ipykernel.kernelspec import write_kernel_spec
from latex2mathml.converter import convert as to_mathml
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter

from . import errors
from .errors import NotebookError, UserError
from .files import PART, write_text, written_whole
from .rendering import render

MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def run_notebook(path: str | Path, parameters: dict[str, Any], executed: Path, page: Path,
                 note: str = "") -> None:
    """Execute the notebook at `path` and render it.

    `parameters` are inserted after its `parameters` cell; `executed` is the path of the executed
    copy (written after a failure too, with the error in it), `page` that of the HTML, which opens
    with `note`. Raises `NotebookError` for an unknown parameter, before anything runs, and for a
    cell that fails with an error that the user can fix; for any other failing cell, papermill's
    error with its traceback.
    """
    known = papermill.inspect_notebook(str(path))
    for name in parameters:
        if name not in known:
            raise NotebookError(f"{path} has no parameter {name!r}; it has {', '.join(known)}")
    with written_whole(executed) as temporary, _own_kernel(Path(executed).parent):
        try:
            papermill.execute_notebook(
                str(path), str(temporary), parameters, progress_bar=False,
                cwd=str(Path(path).parent),  # as JupyterLab and nbval do
                stdout_file=sys.stdout, stderr_file=sys.stderr,
                # hides the warning on every start that the kernel talks over local TCP
                extra_arguments=["--IPKernelApp.log_level=ERROR"], shutdown_kernel="immediate")
        except papermill.PapermillExecutionError as error:
            failure = error
        else:
            failure = None
    if failure is not None and failure.ename in USER_ERRORS:
        raise NotebookError(f"{Path(path).name}: {failure.evalue}")
    if failure is not None:
        raise failure
    notebook = nbformat.read(executed, as_version=4)
    write_text(page, notebook_html(notebook, Path(path).stem, note))


USER_ERRORS = {name for name, kind in vars(errors).items()
               if isinstance(kind, type) and issubclass(kind, UserError)}


@contextmanager
def _own_kernel(folder):
    """Make the kernel `python3` this interpreter, whatever kernels the user has installed.

    The kernel's temporary files go to a folder of this process below `folder`, so that those of a
    killed process can be found (see `repro.sweep`).
    """
    before = os.environ.get("JUPYTER_PATH")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{PART}{os.getpid()}-") as name:
        write_kernel_spec(Path(name) / "kernels" / "python3")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [name, before]))
        tempfile.tempdir = name
        try:
            yield
        finally:
            tempfile.tempdir = None
            os.environ.pop("JUPYTER_PATH")
            if before is not None:
                os.environ["JUPYTER_PATH"] = before


def notebook_html(notebook: Any, name: str, note: str = "") -> str:
    """Return an executed notebook as a self-contained page, the same for the same results.

    Equations become MathML, which browsers render without a script from the network. Progress bars
    and warnings (stderr) are left out, since they hold times; printed text is joined into one
    piece, however the kernel sent it. HTML in a notebook's own text stays HTML; printed text and
    tables are escaped by nbconvert and by pandas.
    """
    title = _title(notebook) or name  # before equations in it become MathML
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # papermill's own cell has a random one
        if cell.cell_type == "markdown":
            cell.source = _math_to_mathml(cell.source)
        else:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    exporter = HTMLExporter(template_name="basic", preprocessors=[CoalesceStreamsPreprocessor])
    body, _ = exporter.from_notebook_node(notebook)
    style = HtmlFormatter(style="default").get_style_defs(".highlight")
    return render("page.html", title=title, body=Markup(body), note=note,
                  code_style=Markup(style))


def _title(notebook):
    heading = re.match(r"#\s+(.+)", notebook.cells[0].source)
    return heading and heading.group(1)


def _math_to_mathml(markdown):
    """Replace `$..$` and `$$..$$` outside code by MathML."""
    parts = CODE.split(markdown)  # the odd parts are code
    parts[::2] = [MATH.sub(_mathml, part) for part in parts[::2]]
    return "".join(parts)


def _mathml(match):
    block, inline = match.groups()
    return to_mathml(block or inline, display="block" if block else "inline")
