"""Run a notebook as a pipeline stage: execute it with papermill, then render it as a page.

Beyond papermill: unknown parameters are refused (papermill only warns), files are written whole,
the kernel is this interpreter, and errors that the user can fix are told apart from bugs.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from ipykernel.kernelspec import write_kernel_spec

from . import errors
from .errors import NotebookError, UserError
from .files import PART, write_text, written_whole
from .notebook_page import notebook_html


def run_notebook(path: str | Path, parameters: dict[str, Any], executed: Path, page: Path,
                 note: str = "", siblings: Sequence[tuple[str, str]] = (),
                 provenance: str = "") -> None:
    """Execute the notebook at `path` and render it.

    `parameters` are inserted after its `parameters` cell; `executed` is the path of the executed
    copy (written after a failure too, with the error in it), `page` that of the HTML, which opens
    with `note`; `siblings` and `provenance` are as in `notebook_html`. Raises `NotebookError` for
    an unknown parameter, before anything runs, and for a cell that fails with an error that the
    user can fix; for any other failing cell, papermill's error with its traceback.
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
    write_text(page, notebook_html(notebook, Path(page).stem, note, siblings, provenance))


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
