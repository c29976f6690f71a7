"""Text files as people have them: with a byte-order mark or without, in UTF-8 or in UTF-16."""

import codecs
import json

MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",  # begins like the next
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
         codecs.BOM_UTF8: "utf-8-sig"}


def read_text(path, error, utf8_only=False):
    """Return the text of a file, whichever of Unicode's encodings it has and without its mark.

    Raises `FileNotFoundError`, and `error` (a kind of `UserError`) for what is no file or cannot be
    read as text; with `utf8_only` also for UTF-16.
    """
    if path.exists() and not path.is_file():
        raise error(f"{path} is not a file; give the path of a file")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror}); change its permissions") from None
    try:
        return decoded(content, utf8_only)
    except ValueError as problem:
        raise error(f"{path} is not text in UTF-8 ({problem}); save it as UTF-8") from None


def decoded(content, utf8_only=False):
    """Return bytes as text; raises `ValueError` that says why they are none."""
    encoding = next((MARKS[mark] for mark in MARKS if content.startswith(mark)), "utf-8")
    if b"\0" in content[:4] and encoding == "utf-8":
        raise ValueError("it looks like UTF-16 without a byte-order mark")
    if utf8_only and not encoding.startswith("utf-8"):
        raise ValueError(f"it is {encoding.upper()}")
    return content.decode(encoding)


def parse_json(text):
    """Return the value of a JSON text; raises `ValueError` that says why it is none."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
