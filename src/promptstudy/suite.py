"""Another suite beside the default one: a clone of the project with other params.

The pipeline reads one `params.yaml` (`dvc.yaml` makes its stages from it) and writes its results
beside it. So a suite has a folder of its own, which shares the history and nothing else: what is
computed there leaves the first folder's params, artefacts and results alone.
"""

import json
import re
import subprocess
from pathlib import Path

from .dvcyaml import read_stages
from .errors import ParamsError, UserError
from .files import write_text
from .params import load_params
from .stages import rewrite
from .textfiles import read_text


def make_suite(root: Path, name: str, folder: Path, data_root: Path | None = None) -> None:
    """Clone the project at `root` to `folder`, on a branch `name`, to run `params-<name>.yaml`.

    data_root: replaces the one in that file. The results of the other suite are removed from the
    clone. Raises `ParamsError` for a suite that does not exist, params that cannot be used and a
    `folder` that is taken, and `ValueError` where git cannot clone.
    """
    source = root / f"params-{name}.yaml"
    if not source.is_file():
        known = ", ".join(sorted(path.stem.removeprefix("params-")
                                 for path in root.glob("params-*.yaml")))
        raise ParamsError(f"{source} does not exist; there are the suites: {known or 'none'}")
    if folder.exists():
        raise ParamsError(f"{folder} exists already; give another folder, or remove it")
    text = read_text(source, ParamsError, utf8_only=True)
    if data_root is not None:
        value = json.dumps(str(data_root.expanduser().absolute()))
        text = re.sub(r"(?m)^data_root:.*$", lambda _: f"data_root: {value}", text)
    load_params(source)  # so that nothing is made of params that cannot be used
    git("clone", "--quiet", str(root), str(folder))
    git("switch", "--quiet", "--create", f"suite-{name}", folder=folder)
    write_text(folder / "params.yaml", text)
    rewrite(load_params(folder / "params.yaml"))
    # what frozen stages made is all that belongs to every suite
    git("rm", "--quiet", "-r", "--ignore-unmatch", "dvc.lock", "reports",
        *(f":!{path}" for path in frozen_outputs(root)), folder=folder)


def frozen_outputs(root: Path) -> list[str]:
    """Return what frozen stages have put into git, relative to the project at `root`, as a list."""
    return [path for stage in read_stages(root).values() if stage.get("frozen")
            for out in stage["outs"] if isinstance(out, dict) for path in out]


def git(*arguments: str, folder: Path | None = None) -> str:
    """Return what a git command prints that runs in `folder`, by default the working folder.

    Raises `UserError` with git's message if it fails.
    """
    run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if run.returncode:
        raise UserError(f"git {arguments[0]} failed: {run.stderr.strip()}")
    return run.stdout
