"""The tiny suite as a project that DVC runs, as `tests/test_pipeline.py` and others use it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from promptstudy.suite import frozen_outputs

PROJECT = Path(__file__).parents[1]
BIN = str(Path(sys.executable).parent)


def environment(project, hook=None, **more):
    """Return the environment of a command in a project, whose own code runs.

    hook: a folder with a sitecustomize.py, which every Python runs at its start.
    """
    path = os.pathsep.join(str(folder) for folder in (hook, project / "src") if folder)
    return {**os.environ, "PATH": BIN + os.pathsep + os.environ["PATH"], "PYTHONPATH": path, **more}


def dvc(project, *arguments, **more):
    """Start a dvc command in a project, in its own session; `more` is for `environment`."""
    return subprocess.Popen(["dvc", *arguments], cwd=project, env=environment(project, **more),
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True)


def session_members(session):
    """Return the ids of the processes that are still alive in a session."""
    listing = subprocess.run(["pgrep", "-s", str(session)], capture_output=True, text=True)
    return listing.stdout.split()


def finish(process):
    """Wait for a command and return what it printed; fail the test if it failed."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-4000:]
    return output


# Python runs this at its start. It notes what each stage imports of the package, which of its data
# files it opens and which blocks of params.yaml it reads, in the kernels of notebooks too.
WITNESS = """
import os, sys

stage, log, package = os.environ.get("DVC_STAGE"), {log!r}, {package!r}

def note(kind, what):
    with open(log, "a") as file:
        file.write(stage + " " + kind + " " + what + chr(10))

def witness(event, arguments):
    if event == "import" and arguments[0].partition(".")[0] == "promptstudy":
        note("module", arguments[0])
    if event == "import":
        params = sys.modules.get("promptstudy.params")
        kind = getattr(params, "Params", None)
        if kind is not None and not hasattr(kind, "witnessed"):
            read = kind.__getattribute__
            def noted(self, name):
                frame, checking = sys._getframe(1), False  # reads of load_params' checks apart
                while frame and not checking:
                    frame, checking = frame.f_back, frame.f_code.co_name == "load_params"
                if name in kind.__pydantic_fields__ and not checking:
                    note("params", name)
                return read(self, name)
            kind.__getattribute__, kind.witnessed = noted, True
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(package):
        if arguments[0].endswith((".html", ".css", ".csv")):
            note("data", arguments[0][len(package) + 1:])

if stage:
    sys.addaudithook(witness)
"""


def copy_project(root, suite):
    """Make `root` the project as cloned, with a suite's params and data; DVC does not know it."""
    shutil.copytree(suite, root, ignore=shutil.ignore_patterns("artefacts", "reports"))
    for folder in ("notebooks", "src"):
        shutil.copytree(PROJECT / folder, root / folder,
                        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ("dvc.yaml", ".dvcignore"):
        shutil.copy(PROJECT / file, root)


def make_project(root, suite):
    """Make `root` such a project after a first `dvc repro`.

    `witness.log` beside it tells what each stage used.
    """
    copy_project(root, suite)
    (root / "reports").mkdir()
    for path in frozen_outputs(root):
        (root / path).write_text("made by a frozen stage")
    finish(dvc(root, "init", "--no-scm", "--quiet", "--force"))
    shutil.copy(PROJECT / ".dvcignore", root)
    shutil.copytree(PROJECT / ".dvc" / "plots", root / ".dvc" / "plots")
    finish(dvc(root, "config", "core.analytics", "false"))
    hook = root.parent / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(WITNESS.format(
        log=str(root.parent / "witness.log"), package=str(root / "src" / "promptstudy")))
    finish(dvc(root, "repro", hook=hook))
