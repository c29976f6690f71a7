"""Write reports/index.html, the page to open first, and the README's table."""

from argparse import ArgumentParser, Namespace

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """The command takes no arguments."""


def run(args: Namespace) -> None:
    """Write the pages and say where the first one is."""
    from ..report import write_report
    print(f"report: {write_report(load_params(args.params))}")
