"""Ask the language model of params.yaml for the class descriptions that have no reply yet."""

import atexit
import os
import sys
from argparse import ArgumentParser, Namespace

from ..errors import AskError
from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("datasets", nargs="*", metavar="DATASET",
                        help="name of a dataset in params.yaml (default: all)")
    parser.add_argument("--dry-run", action="store_true",
                        help="say how many requests would be sent, and send none")


def run(args: Namespace) -> None:
    """Print what was asked and answered.

    Raises `AskError` if requests have no reply, or classes no sentence.
    """
    from ..features import class_names
    from ..llm import ask as asking
    from ..llm.log import log_path, read_log
    from ..llm.parse import parse, summary, without_sentence
    from ..llm.queries import requests
    params = load_params(args.params)
    faults = []
    for name in args.datasets or params.datasets:
        names = class_names(params, params.dataset(name))
        estimate = asking.estimate(params, name, names)
        print(f"{name}: {len(estimate.todo)} of {estimate.n_requests} requests to send, "
              f"about ${estimate.most_usd:.2f} at most")
        if args.dry_run:
            continue
        try:
            outcome = asking.ask(params, name, names)
        except KeyboardInterrupt:
            atexit.register(_end_at_once)
            raise
        parsed = parse(requests(params, name, names), read_log(log_path(params, name)))
        for request, reason in outcome.failed:
            print(f"failed: {request.class_name}, query {request.query}: {reason}")
        print(f"{outcome.n_answered} replies for ${outcome.usd:.2f}; tried again: "
              f"{dict(outcome.retried) or 'nothing'}")
        print(f"{sum(map(len, parsed.sentences.values()))} sentences for {len(names)} classes; "
              f"left out: {summary(parsed.problems)}")
        if outcome.failed:
            faults.append(f"{name}: {len(outcome.failed)} requests have no reply; run this again "
                          "to send only them")
        bare = without_sentence(parsed)
        if bare:
            faults.append(
                f"{name}: {len(bare)} of {len(parsed.sentences)} classes have no sentence, "
                f"{_named(bare)}; see above why their replies were left out, change the queries "
                "or the block llm of params.yaml, and run this again")
    if faults:
        raise AskError("\n".join(faults))


def _end_at_once():
    """End the process at once; Python would take seconds more to unload torch."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _named(names, most=10):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
