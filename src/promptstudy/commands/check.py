"""Validate params.yaml and the folders that it names, and write its JSON schema for editors."""

import json
from argparse import ArgumentParser, Namespace

from ..files import write_text
from ..params import Params, load_params


def arguments(parser: ArgumentParser) -> None:
    """The command takes no arguments."""


def run(args: Namespace) -> None:
    """Print what is not available yet; raise a `UserError` that lists every fault."""
    check_suite(load_params(args.params))


def check_suite(params: Params) -> None:
    """Do what the command does, for params that have been loaded."""
    from ..checks import check
    for note in check(params):
        print(f"note: {note}")
    schema = json.dumps(Params.model_json_schema(), indent=2) + "\n"
    write_text(params.root / "artefacts" / "params.schema.json", schema)
    # other stages depend on this file; it never changes, so that no new key runs them again
    write_text(params.root / "artefacts" / "checked", "params.yaml can be used\n")
