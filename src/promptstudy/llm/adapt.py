"""Parameters that current models refuse: finding them, and sending requests without them.

Changes are `{parameter: None}` for one that is left out, or `{parameter: other name}`.
"""

import json
import re
from typing import Any

PARAMETERS = ("temperature", "max_tokens", "seed")
OTHER_NAMES = {"max_tokens": "max_completion_tokens"}
# a value that is out of bounds is for the user to correct
BOUNDS = re.compile(r"\b(too (large|big|small|high|low|long|short)|at (most|least)|exceed(s|ed)?|"
                    r"(less|greater|more|fewer) than|between|range|maximum|minimum)\b", re.I)


def adapted(body: dict[str, Any], changes: dict[str, str | None]) -> dict[str, Any]:
    """Return the body of a request with `changes` made."""
    names = {name: changes.get(name, name) for name in body}
    return {new: body[name] for name, new in names.items() if new}


def refused(text: str, body: dict[str, Any],
            changes: dict[str, str | None]) -> dict[str, str | None]:
    """Return the changes that an error's text calls for, given a request sent with `changes`.

    It is empty if the text does not name a parameter that was sent, or refuses only its value.
    """
    if BOUNDS.search(text):
        return {}
    named = _complaint(text)
    sent = {name: changes.get(name, name) for name in PARAMETERS if name in body}
    return {name: OTHER_NAMES.get(as_sent) for name, as_sent in sent.items()
            if as_sent and re.search(rf"\b{as_sent}\b", named)}


def notes(changes: dict[str, str | None]) -> list[str]:
    """Return a sentence about each change."""
    return [f"the endpoint refuses {name}: " + (f"it is sent as {other}" if other
                                               else "requests are sent without it")
            for name, other in changes.items()]


def _complaint(text):
    """Return the parameter that an OpenAI-compatible error names, or its message."""
    try:
        error = json.loads(text)["error"]
        return str(error.get("param") or error["message"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return text
