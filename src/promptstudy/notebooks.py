"""Run a notebook as a pipeline stage: execute it with papermill, then render it as a page.

Two things are added to papermill: parameters that the notebook does not have are refused
(papermill only warns), and files are written whole.
"""

import re
import sys
from pathlib import Path

import nbformat
import papermill
from jinja2 import Environment, PackageLoader
from latex2mathml.converter import convert as to_mathml
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter

from .errors import NotebookError
from .files import write_text, written_whole

MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def run_notebook(path, parameters, executed, page, note=""):
    """Execute the notebook at `path` and render it.

    `parameters` are put behind its `parameters` cell; `executed` is where the executed copy goes
    (also after a failure, with the error in it), `page` the HTML, which opens with `note`.
    Raises `ValueError` for an unknown parameter before anything runs, and papermill's error for a
    failing cell.
    """
    known = papermill.inspect_notebook(str(path))
    for name in parameters:
        if name not in known:
            raise NotebookError(f"{path} has no parameter {name!r}; it has {', '.join(known)}")
    with written_whole(executed) as temporary:
        try:
            papermill.execute_notebook(
                str(path), str(temporary), parameters, progress_bar=False,
                cwd=str(Path(path).parent),  # as JupyterLab and nbval do
                stdout_file=sys.stdout, stderr_file=sys.stderr,
                # the kernel's warning on every start, that it talks over local TCP, is no news
                extra_arguments=["--IPKernelApp.log_level=ERROR"], shutdown_kernel="immediate")
        except papermill.PapermillExecutionError as error:
            failure = error
        else:
            failure = None
    if failure is not None:
        raise failure
    notebook = nbformat.read(executed, as_version=4)
    write_text(page, notebook_html(notebook, Path(path).stem, note))


def notebook_html(notebook, name, note=""):
    """Return the page of an executed notebook: self-contained, equal for equal results.

    Equations become MathML, which browsers draw without a script from the network. Progress bars
    and warnings (the error stream) are left out, since they hold times; what was printed stands in
    one piece, however the kernel happened to send it.
    """
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # papermill's own cell has a random one
        if cell.cell_type == "markdown":
            cell.source = _math_to_mathml(cell.source)
        else:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    exporter = HTMLExporter(template_name="basic", preprocessors=[CoalesceStreamsPreprocessor])
    body, _ = exporter.from_notebook_node(notebook)
    return render("page.html", title=_title(notebook) or name, body=body, note=note,
                  code_style=HtmlFormatter(style="default").get_style_defs(".highlight"))


def render(template, **values):
    """Return a page made from one of the package's HTML templates."""
    loader = PackageLoader("promptstudy", "pages")
    return Environment(loader=loader, autoescape=False).get_template(template).render(values)


def _title(notebook):
    heading = re.match(r"#\s+(.+)", notebook.cells[0].source)
    return heading and heading.group(1)


def _math_to_mathml(markdown):
    """Replace `$..$` and `$$..$$` outside code by MathML."""
    parts = CODE.split(markdown)  # code stands at the odd places
    parts[::2] = [MATH.sub(_mathml, part) for part in parts[::2]]
    return "".join(parts)


def _mathml(match):
    block, inline = match.groups()
    return to_mathml(block or inline, display="block" if block else "inline")
