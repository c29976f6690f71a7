"""Reproduce, study and extend four CLIP prompt-learning papers: one command per step."""

import argparse
import importlib
import pkgutil
import sys
import time
from pathlib import Path

from . import commands
from .errors import UserError
from .lifetime import end_with_dvc, run_own_code, stage_of_dvc

# Every module of `commands` is a command of the same name: its docstring is the help, `arguments`
# declares the arguments, `run` does the work. Heavy packages are imported inside `run`, so that
# help and `check` answer at once.


def main() -> None:
    """Parse the command line and run one command; errors that users can fix end in one message."""
    run_own_code()
    end_with_dvc()
    called = "promptstudy" if Path(sys.argv[0]).stem == "promptstudy" else "python -m promptstudy"
    parser = argparse.ArgumentParser(prog=called, description=__doc__)
    parser.add_argument("--params", help="params.yaml of the suite (default: the project's)")
    known = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for module in pkgutil.iter_modules(commands.__path__):
        command = importlib.import_module(f"{commands.__name__}.{module.name}")
        summary = (command.__doc__ or "").partition("\n")[0]
        added = known.add_parser(module.name.replace("_", "-"), help=summary,
                                 description=command.__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
        command.arguments(added)
        added.set_defaults(run=command.run)
    args = parser.parse_args()
    started = time.monotonic()
    try:
        with stage_of_dvc():
            args.run(args)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{args.command}: interrupted after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
