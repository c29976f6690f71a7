"""What the user can mend is one line; a fault of the project keeps its traceback."""

import subprocess
import sys

import pytest

from promptstudy import __main__, commands, errors
from promptstudy.commands import check

KINDS = [kind for kind in vars(errors).values()
         if isinstance(kind, type) and issubclass(kind, errors.UserError)]


def run(monkeypatch, error):
    """Run `check`, which raises an error."""
    def fail(args):
        raise error
    monkeypatch.setattr(check, "run", fail)
    monkeypatch.setattr(sys, "argv", ["promptstudy", "check"])
    __main__.main()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_user_is_one_message(monkeypatch, kind):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, kind("what is wrong; what to do"))
    assert ended.value.code == "error: what is wrong; what to do"


@pytest.mark.parametrize("kind", [ValueError, KeyError, FileNotFoundError, ZeroDivisionError])
def test_a_fault_of_the_project_is_not_caught(monkeypatch, kind):
    with pytest.raises(kind):
        run(monkeypatch, kind("zip() argument 2 is shorter than argument 1"))


def test_every_error_class_of_the_package_is_one_of_them():
    found = {line.split()[1].partition("(")[0] for path in errors_files()
             for line in path.read_text().splitlines() if line.startswith("class ")
             and ("Error)" in line or "Exception)" in line)}
    internal = {"Stopped", "Trouble", "Rejected", "BadReply", "TooLarge"}
    assert found - {kind.__name__ for kind in KINDS} <= internal


def errors_files():
    from pathlib import Path
    return Path(errors.__file__).parent.rglob("*.py")


def test_help_names_every_command():
    run = subprocess.run([sys.executable, "-m", "promptstudy", "--help"], capture_output=True,
                         text=True, check=True)
    for name in ("check", "repro", "train", "notebook", "ask", "doctor"):
        assert f"\n    {name} " in run.stdout
    assert len(list(commands.__path__)) == 1
