"""Serve a small language model that `make llm` has installed, until it is interrupted."""

from argparse import ArgumentParser, Namespace

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="its name for `make llm`")
    parser.add_argument("--port", type=int, default=8000, help="where to listen (default: 8000)")


def run(args: Namespace) -> None:
    """Serve it on this machine, for `ask`."""
    from ..llm.serve import serve
    serve(load_params(args.params).root / ".work" / "llm", args.model, args.port)
