"""Clean text from an endpoint for storing and printing: no control characters and no key."""

import json
import re
from functools import cache

# terminal escape sequences: CSI, OSC and the short ones
ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b"
                     r"\\|\x9c)?|\x1b[ -/]*[0-~]")
BREAKS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # line breaks of all kinds
# other control characters, marks that change the direction of writing, and lone surrogates
CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
SHORTEST_KEY = 6  # `none` and the like are not secrets, and occur in replies


def printable(text: str) -> str:
    """Return a text without control characters; every kind of line break becomes a newline."""
    return CONTROLS.sub("", BREAKS.sub("\n", ESCAPES.sub("", text)))


def one_line(text: str, length: int = 200) -> str:
    """Return the beginning of a printable text, on one line."""
    return " ".join(text.split())[:length]


def clean_body(body: str, key: str) -> str:
    """Return the body of a response, printable and with `[key]` for the API key.

    JSON is cleaned string by string, since it may write any character as an escape. A body that
    needs no cleaning is returned unchanged.
    """
    def clean(text):
        return printable(_without(key, text))

    try:
        content = json.loads(body)
        cleaned = _each_string(content, clean)
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        return clean(body)
    return body if cleaned == content else json.dumps(cleaned, ensure_ascii=False)


def _each_string(value, change):
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_string(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): _each_string(item, change) for key, item in value.items()}
    return value


def _without(key, text):
    return text if len(key) < SHORTEST_KEY else _spellings(key).sub("[key]", text)


@cache
def _spellings(key):
    """Return the pattern of a key, in which any character may be written as an escape."""
    return re.compile("".join(
        rf"(?:\\*{re.escape(char)}|\\+u(?i:{ord(char):04x})|%(?i:{ord(char):02x}))"
        for char in key))
