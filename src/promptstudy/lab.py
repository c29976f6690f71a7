"""JupyterLab beside the pipeline: notebooks are stored without their outputs.

The pipeline depends on the files in notebooks/. If a saved notebook held outputs, reading it would
make its stages look out of date. So JupyterLab stores only code and prose (Jupyter calls
`before_saving`, see jupyter/jupyter_server_config.json), and `make repro` strips what other
editors have stored.
"""

from pathlib import Path
from typing import Any

import nbformat
from nbstripout import strip_output

from .files import write_text

LANGUAGE = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}}
CELL_KEYS = ("tags",)  # cell metadata that is stored; editors add more, such as times


def stripped(notebook: Any) -> Any:
    """Return a notebook node as it is stored: without outputs, counts or editor metadata."""
    notebook = strip_output(notebook, keep_output=False, keep_count=False, keep_id=True)
    notebook.metadata = nbformat.from_dict(LANGUAGE)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items()
                                            if key in CELL_KEYS})
    return notebook


def before_saving(model: dict[str, Any], **_: Any) -> None:
    """Strip the notebook that JupyterLab is about to store (a `pre_save_hook`)."""
    if model["type"] == "notebook" and model["content"]["nbformat"] == 4:
        model["content"] = stripped(nbformat.from_dict(model["content"]))


def strip_outputs(folder: Path) -> list[Path]:
    """Strip the notebooks in a folder; return the paths of those that changed."""
    changed = []
    for path in sorted(folder.glob("*.ipynb")):
        before = path.read_text(encoding="utf-8")
        after = nbformat.writes(stripped(nbformat.reads(before, as_version=4))) + "\n"
        if after != before:
            write_text(path, after)
            changed.append(path)
    return changed
