"""Ready-made corpora, `{class: [sentence, ...]}` JSON as in CuPL and VDT, matched by name."""

import csv
import json
import re
from pathlib import Path
from typing import NamedTuple

from ..errors import CorpusError
from .parse import Problem


class Matched(NamedTuple):
    """`sentences` {class: [sentence, ...]} for every class, and `problems`, unmatched ones too."""

    sentences: dict
    problems: list


def read_corpus(path: Path, class_names: list[str]) -> Matched:
    """Return the `Matched` sentences of the file at `path`; raises `CorpusError`.

    The file is JSON, or Grocery Store's `classes.csv` with the description files that it names.
    """
    try:
        content = (_products(path) if path.suffix == ".csv"
                   else json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CorpusError(f"the corpus {path} or a file that it names does not exist; correct "
                          "llm.corpora or datasets in params.yaml") from None
    except ValueError as error:
        raise CorpusError(f"{path} is not valid JSON ({error})") from None
    except KeyError as error:
        raise CorpusError(f"{path} has no column {error}; Grocery Store's classes.csv has one") \
            from None
    faulty = [key for key, value in content.items() if not isinstance(value, list)
              or not all(isinstance(text, str) for text in value)] \
        if isinstance(content, dict) else [content]
    if faulty:
        raise CorpusError(f'{path} must look like {{"class": ["sentence", ...], ...}}; it holds '
                          f"{str(faulty[0])[:80]!r}")
    return match(content, class_names, path)


def _products(path):
    """`{coarse class: [description of each of its products]}` of Grocery Store's classes.csv."""
    content: dict[str, list[str]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            text = path.parent / row["Product Description Path (str)"].lstrip("/")
            sentences = content.setdefault(row["Coarse Class Name (str)"], [])
            sentences.append(" ".join(text.read_text(encoding="utf-8").split()))
    return content


def match(corpus: dict[str, list[str]], class_names: list[str], path: Path) -> Matched:
    """Return the `Matched` entries of a corpus: names are compared in their `plain_name` form.

    Raises `CorpusError` when two entries would both belong to one class.
    """
    entries: dict[str, str] = {}
    for key in corpus:
        other = entries.setdefault(plain_name(key), key)
        if corpus[other] != corpus[key]:
            raise CorpusError(f"{path}: {other!r} and {key!r} name the same class, with "
                              "different sentences; remove one")
    sentences, problems = {}, []
    for name in class_names:
        found = entries.get(plain_name(name))
        texts = [text.strip() for text in corpus[found]] if found else []
        sentences[name] = [text for text in dict.fromkeys(texts) if text]
        if found is None:
            problems.append(Problem(name, "not in the corpus"))
        elif len(sentences[name]) < len(texts):
            problems.append(Problem(name, f"{len(texts) - len(sentences[name])} empty or "
                                          "duplicate sentences"))
    return Matched(sentences, problems)


def plain_name(name: str) -> str:
    """Return a class name in the form used for comparing names.

    Lower case, `_` and `-` as spaces, a year first: `Audi_TT-RS coupe 2012` becomes
    `2012 audi tt rs coupe`.
    """
    words = re.sub(r"[\s_\-]+", " ", name).lower().split()
    if words and re.fullmatch(r"(19|20)\d\d", words[-1]):
        words = words[-1:] + words[:-1]
    return " ".join(words)
