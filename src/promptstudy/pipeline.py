"""The stages of dvc.yaml: which methods have some, and what code each of them depends on."""

import shlex

import yaml

from . import code
from .errors import ParamsError
from .params.methods import BLOCKS

READ_ALL = ("evaluate", "figures", "report")  # stages that read the blocks of all methods


def training(method):
    """Return the stage that trains a method, as dvc.yaml has it, but for the code it depends on.

    A method that reads more, such as descriptions, needs them added to `deps` and `params` by hand.
    """
    return {"foreach": "${datasets}", "do": {
        "cmd": f"python -m {code.NAME} train {method} --dataset ${{key}}",
        "deps": ["artefacts/backbones/${key}.json", "artefacts/features/${key}.safetensors"],
        "params": sorted(["backbone", "base_to_new_shots", "captioned", "datasets.${key}", method,
                          "seeds", "shots", "transfer.shots", "transfer.source"]),
        "outs": [f"artefacts/{method}/${{key}}.safetensors"]}}


def with_methods(definition, methods):
    """Give a parsed dvc.yaml the stages of exactly these methods; return it.

    A method without a stage gets one (`training`); those of other methods are removed, with their
    pages, and so is what other stages read of them.
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
    """Take the entries of other methods out of a list, and put missing ones in if it needs all."""
    for method in BLOCKS:
        entry = form.format(method)
        if method not in methods and entry in entries:
            entries.remove(entry)
        elif method in methods and all_of_them and entry not in entries:
            entries.insert(0, entry)


def check_stages(params):
    """Raise `ParamsError` if dvc.yaml trains other methods than params.yaml has blocks of."""
    path = params.root / "dvc.yaml"
    stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"] if path.is_file() else None
    if stages is None:  # a suite that DVC does not run
        return
    faults = [f"  {method}: a stage of it, but no block" if method in stages else
              f"  {method}: a block of it, but no stage"
              for method in BLOCKS if (method in stages) != (method in params.methods)]
    if faults:
        raise ParamsError("dvc.yaml and params.yaml have different methods; run `make stages`:\n"
                          + "\n".join(faults))


def code_of(stage, root):
    """Return the paths, relative to the project at `root`, of the code that a stage depends on.

    stage: its `cmd` and `params` as in dvc.yaml. What a method's block of params.yaml is made of
    matters to stages that read the block. A folder stands for its files where all are needed.
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
    """The methods whose block a stage reads; one that depends on the whole file reads all."""
    params = stage.get("params", [])
    whole = any(not isinstance(entry, str) for entry in params)
    return [method for method in BLOCKS if whole or method in params]


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
            stage["deps"][:] = [*kept, *code_of(stage, root)]
    return definition
