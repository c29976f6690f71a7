"""Which files of this package a part of it depends on, found in the code itself.

`dvc.yaml` names these files for every stage (`python -m promptstudy stages` writes them, a test
checks them), and learned parameters carry their digest, so that they are trained again when one
of the files changes.
"""

import ast
import functools
import hashlib
import json
import re
from pathlib import Path

from .params.methods import BLOCKS

PACKAGE = Path(__file__).parent
NAME = PACKAGE.name
# Methods and their blocks of params are imported by name at run time (`methods.registry.load`,
# `params.methods.BLOCKS`), which the code does not show. Code that trains a method or reads its
# block says which; code that imports the evaluation restores all methods.
RESTORES_ALL = f"{NAME}.evaluation"
INCLUDED = re.compile(r'{%-?\s*(?:include|extends|import|from)\s+"([^"]+)"')  # in a template
METHODS = [f"{NAME}.methods.{name}" for name in BLOCKS]


def files(*modules: str) -> list[Path]:
    """Return the sorted paths of everything that the modules (dotted names) depend on.

    These are the modules, everything that they import from this package, anywhere in their code,
    the packages that contain these (unless their `__init__` holds no code), and the data files
    that they name.
    """
    return _closure([_file(module) for module in modules])


def notebook_files(path: Path) -> list[Path]:
    """Return the sorted paths of what the code cells of the notebook at `path` depend on."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    magic = re.compile(r"^\s*[%!].*$", re.MULTILINE)
    return _closure(_imports(ast.parse(magic.sub("", code)), package=""))


@functools.cache
def training_sha256(method: str) -> str:
    """Return the SHA-256 over all code that the training of a method depends on."""
    digest = hashlib.sha256()
    for path in files(f"{NAME}.commands.train", f"{NAME}.methods.{method}",
                      f"{NAME}.params.methods.{method}"):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _closure(todo):
    found = set()
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        todo += _needs(path)
        if path == _file(RESTORES_ALL):
            todo += map(_file, METHODS)
    return sorted(path for path in found if path.name != "__init__.py" or has_code(path))


def has_code(path: Path) -> bool:
    """Does a Python file hold more than a docstring?"""
    return any(not isinstance(node, ast.Expr) for node in
               ast.parse(path.read_text(encoding="utf-8")).body)


@functools.cache
def _needs(path):
    """The files that one file needs directly."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return [_data()[name] for name in INCLUDED.findall(text)]
    tree, inside = ast.parse(text), path.relative_to(PACKAGE.parent).parent
    needed = _imports(tree, ".".join(inside.parts))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    needed += [file for name, file in _data().items() if name in strings]
    return needed


def _imports(tree, package):
    """The files of this package that a syntax tree in `package` imports."""
    needed = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[:len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == NAME:  # with its parent packages, whose __init__ runs first
                files = (_file(".".join(parts[:n])) for n in range(1, len(parts) + 1))
                needed += [file for file in files if file]
    return needed


def _file(module):
    """The file of the module or package with that dotted name, or None."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py")
                 if file.is_file()), None)


@functools.cache
def _data():
    """The package's data files, {name: path}; a module or template that needs one names it."""
    return {path.name: path for path in sorted(PACKAGE.rglob("*"))
            if path.is_file() and path.suffix in (".html", ".css", ".csv", ".js", ".svg", ".json")}
