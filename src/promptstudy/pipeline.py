"""The stages of dvc.yaml: which methods have one, and what code each stage depends on."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import code
from .dvcyaml import read_stages
from .errors import ParamsError
from .params import Params
from .params.methods import BLOCKS

# stages that read the blocks of all methods
READ_ALL = ("evaluate", "figures", "metrics", "report")


def training(method: str) -> dict[str, Any]:
    """Return the stage that trains a method, as in dvc.yaml, without the code it depends on.

    A method that reads more, such as descriptions, needs them added to `deps` and `params` by hand.
    """
    return {"foreach": "${datasets}", "do": {
        "cmd": f"python -m {code.NAME} train {method} --dataset ${{key}}",
        "deps": ["artefacts/backbones/${key}.json", "artefacts/features/${key}.safetensors"],
        "params": sorted(["backbone", "base_to_new_shots", "captioned", "datasets.${key}", method,
                          "seeds", "shots", "transfer.shots", "transfer.source"]),
        "outs": [f"artefacts/{method}/${{key}}.safetensors"]}}


def with_methods(definition: Any, methods: Iterable[str]) -> Any:
    """Give a parsed dvc.yaml the stages of exactly these methods; return it.

    A method without a stage gets one (`training`). The stages and pages of other methods are
    removed, and so is what the remaining stages read from them.
    """
    stages = definition["stages"]
    for method in BLOCKS:
        if method not in methods:
            stages.pop(method, None)
            stages.pop(f"{method}_page", None)
        elif method not in stages:
            stages.insert(list(stages).index("evaluate"), method, training(method))
    for name, stage in stages.items():
        stage = stage.get("do", stage)
        _fit(stage["deps"], "artefacts/{}", methods, name == "evaluate")
        _fit(stage["deps"], "artefacts/{}/${{key}}.safetensors", methods, False)
        _fit(stage.get("params", []), "{}", methods, name in READ_ALL)
    return definition


def _fit(entries, form, methods, all_of_them):
    """Remove the entries of other methods from a list; add missing ones if it needs all."""
    for method in BLOCKS:
        entry = form.format(method)
        if method not in methods and entry in entries:
            entries.remove(entry)
        elif method in methods and all_of_them and entry not in entries:
            entries.insert(0, entry)


def check_stages(params: Params) -> None:
    """Raise `ParamsError` if dvc.yaml and params.yaml do not fit.

    Both must have the same methods, and DVC knows no defaults: each key that a stage reads must be
    in params.yaml.
    """
    try:
        stages, methods = read_stages(params.root), params.methods
    except FileNotFoundError:  # a suite that DVC does not run
        return
    read = {key for stage in stages.values() for key in stage.get("params", ())
            if isinstance(key, str) and "$" not in key and key not in BLOCKS}
    lacking = [f"  {default}" for key in sorted(read) if (default := _missing(params, key))]
    if lacking:
        raise ParamsError("params.yaml lacks keys that dvc.yaml reads; add them:\n"
                          + "\n".join(lacking))
    faults = [f"  {method}: has a stage but no block" for method in BLOCKS
              if method in stages and method not in methods]
    faults += [f"  {method}: has a block but no stage" for method in methods
               if method not in stages]
    if faults:
        raise ParamsError("dvc.yaml and params.yaml have different methods; run `make stages`:\n"
                          + "\n".join(faults))


def _missing(block, key):
    """The line that gives a key below a block its default, where params.yaml leaves it out."""
    name, _, rest = key.partition(".")
    if name not in block.model_fields_set:
        default = block.model_dump(mode="json", include={name})[name]
        return f"{name}: {json.dumps(default)}"
    below = _missing(getattr(block, name), rest) if rest else None
    return below and f"{name}: {{{below}}}"


def code_of(stage: dict[str, Any], root: Path) -> list[str]:
    """Return the paths, relative to the project at `root`, of the code that a stage depends on.

    stage: its `cmd` and `params` as in dvc.yaml. A stage that reads a method's block of params.yaml
    depends on the code of the block. A folder replaces its files if all of them are needed.
    """
    program, *arguments = shlex.split(stage["cmd"])[2:]
    assert program == code.NAME, stage["cmd"]
    name = arguments[0].replace("-", "_")
    files = set(code.files(f"{code.NAME}.__main__", f"{code.NAME}.commands.{name}",
                           *(f"{code.NAME}.params.methods.{method}" for method in _read(stage)),
                           *([f"{code.NAME}.methods.{arguments[1]}"] if name == "train" else ())))
    if name == "notebook":
        files |= set(code.notebook_files(root / arguments[1]))
    return sorted(path.relative_to(code.PACKAGE.parents[1]).as_posix()
                  for path in _folders(code.PACKAGE, files))


def _read(stage):
    """The methods whose block a stage reads: all if it depends on the whole file."""
    params = stage.get("params", [])
    whole = any(not isinstance(entry, str) for entry in params)
    return [method for method in BLOCKS if whole or method in params]


def _folders(folder, files):
    """Replace the files of a folder by the folder where all of them are among `files`."""
    own = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"
           and not (path.name == "__init__.py" and not code.has_code(path))]
    if own and files.issuperset(own):
        return [folder]
    here = [path for path in files if path.parent == folder]
    return here + [path for inner in folder.iterdir() if inner.is_dir()
                   for path in _folders(inner, files)]


def with_dependencies(definition: Any, root: Path) -> Any:
    """Replace the code in the `deps` of every stage of a parsed dvc.yaml; return it.

    Files below `src` are code; everything else is left alone, and so are frozen stages.
    """
    for stage in definition["stages"].values():
        stage = stage.get("do", stage)
        if not stage.get("frozen"):
            kept = [path for path in stage["deps"] if not path.startswith("src/")]
            stage["deps"][:] = [*kept, *code_of(stage, root)]
    return definition
