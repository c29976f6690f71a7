"""What each stage of dvc.yaml depends on, and the lists of it there."""

import os
import shlex
from pathlib import Path

from . import code


def code_of(command, root):
    """Return the paths, relative to the project at `root`, of the code that a stage's command runs.

    A folder stands for its files where all of them are needed.
    """
    program, *arguments = shlex.split(command)[2:]
    assert program == code.NAME, command
    name = arguments[0].replace("-", "_")
    files = set(code.files(f"{code.NAME}.__main__", f"{code.NAME}.commands.{name}",
                           *([f"{code.NAME}.methods.{arguments[1]}"] if name == "train" else ())))
    if name == "notebook":
        files |= set(code.notebook_files(root / arguments[1]))
    return sorted(Path(os.path.relpath(path, root)).as_posix()
                  for path in _folders(code.PACKAGE, files))


def _folders(folder, files):
    """Put folders in the place of their files where all of these are among `files`."""
    own = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"
           and not (path.name == "__init__.py" and not code.has_code(path))]
    if own and files.issuperset(own):
        return [folder]
    here = [path for path in files if path.parent == folder]
    return here + [path for inner in folder.iterdir() if inner.is_dir()
                   for path in _folders(inner, files)]


def with_dependencies(definition, root):
    """Put its code into the `deps` of every stage of a parsed dvc.yaml, in place of what stands.

    Files below `src` are code; everything else is left alone, and so are frozen stages.
    """
    for stage in definition["stages"].values():
        stage = stage.get("do", stage)
        if not stage.get("frozen"):
            kept = [path for path in stage["deps"] if not path.startswith("src/")]
            stage["deps"][:] = [*kept, *code_of(stage["cmd"], root)]
    return definition
