"""Text files as users have them: with or without a byte-order mark, in UTF-8 or UTF-16."""

import codecs
import importlib.util
import json
from pathlib import Path
from typing import Any

MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",  # begins like the next
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
         codecs.BOM_UTF8: "utf-8-sig"}


def read_text(path: Path, error: type[Exception], utf8_only: bool = False) -> str:
    """Return the text of a file in any of Unicode's encodings, without its byte-order mark.

    Raises `FileNotFoundError`, and `error` (a kind of `UserError`) for a path that is not a file
    or cannot be read as text; with `utf8_only` also for UTF-16.
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


def decoded(content: bytes, utf8_only: bool = False) -> str:
    """Return bytes as text; raises `ValueError` saying why they are not text."""
    encoding = next((MARKS[mark] for mark in MARKS if content.startswith(mark)), "utf-8")
    if b"\0" in content[:4] and encoding == "utf-8":
        raise ValueError("it looks like UTF-16 without a byte-order mark")
    if utf8_only and not encoding.startswith("utf-8"):
        raise ValueError(f"it is {encoding.upper()}")
    return content.decode(encoding)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; raises `ValueError` saying why it is not JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def package_folder(name: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package {name} is not installed")
    return Path(spec.origin).parent
