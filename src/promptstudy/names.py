"""What names and templates in params.yaml must look like.

The name of a dataset becomes part of file names, shell commands, DVC stages and tables of results.
"""

import re
import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

FORM = "may hold only the letters A to Z, digits, _ and -, and must not begin with -"
LONGEST = 100  # most systems limit file names to 255 bytes
MISSING = {"na", "nan", "none", "null"}  # tables of results read these as a missing value


def key_faults(blocks: Mapping[str, Iterable[str]]) -> list[str]:
    """Return what is wrong with the names of datasets, a list of sentences.

    blocks: `{"datasets": names, "captioned": names, ...}`.
    """
    faults, alike = [], defaultdict(list)
    for block, names in blocks.items():
        for name in names:
            if reason := _fault(name):
                faults.append(f"{block}: the name {name!r} {reason}")
            alike[name.lower()].append(f"{block}.{name}")
    for keys in alike.values():
        if len({key.rpartition(".")[2] for key in keys}) > 1:
            faults.append(f"{' and '.join(keys)}: differ only in upper and lower case, which some "
                          "systems do not tell apart in file names; rename one")
    return faults


def number_as_key(block: str, key: Any) -> str:
    """Say what is wrong with a key of a `block` that YAML does not read as text."""
    if isinstance(key, bool) or key is None:
        return (f"{block}: YAML reads one of the names as {key} and not as text, as it does with "
                "on, off, yes, no, true, false and null; choose another name")
    return (f"{block}: YAML reads the name {key} as a number; a name needs a letter, e.g. "
            f"{suggested(f'd{key}')!r} (quotes are not enough)")


def suggested(name: str) -> str:
    """Return an allowed name that resembles `name`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:LONGEST]
    return plain if plain and not _is_no_text(plain) else f"d{plain}"


def template_fault(template: str) -> str | None:
    """Return a sentence on why a template cannot be filled with a class name, or None."""
    found = f"needs {{}} once (found {template!r})"
    try:
        fields = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError:
        return f"{found}: it has an unpaired brace; write {{{{ or }}}} for a brace in the prompt"
    if fields == [("", "", None)]:
        return None
    other = next((name for name, *_ in fields if name), None)
    return f"{found}" + (f": {{{other}}} is not filled; write {{}}" if other else "")


def _fault(name):
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        return ("cannot be used: names become part of file names and commands, so they "
                f"{FORM}; call it {suggested(name)!r}")
    if len(name) > LONGEST:
        return f"has {len(name)} letters, at most {LONGEST} are allowed; shorten it"
    if _is_no_text(name):
        return ("is not always read as text, by YAML without quotes or in a table of results; "
                f"call it {suggested(name)!r}")
    return None


def _is_no_text(name):
    """Is it read as a number, a boolean or a missing value, by YAML 1.1 or 1.2 or by pandas?"""
    try:
        float(name)
        return True
    except ValueError:
        return name.lower() in MISSING or not isinstance(yaml.safe_load(name), str)
