"""The descriptions of a dataset's classes: made from replies or a corpus, stored, loaded."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..datasets.root import data_root
from ..errors import CorpusError, DamagedFile, MissingFile
from ..files import file_sha256, write_text
from ..params import Params
from .corpora import read_corpus
from .log import log_path, read_log
from .parse import Problem, parse
from .queries import read_queries, requests


class Descriptions(NamedTuple):
    """`texts` {class: [text, ...]} in class order, at least one each; `provenance` and `problems`.

    `provenance` records what they come from, `problems` everything that was left out and why.
    """

    texts: dict
    provenance: dict
    problems: Sequence[Problem] = ()

    @property
    def sha256(self) -> str:
        """Digest of all three."""
        return _sha256(self._asdict())


def describe(params: Params, name: str, class_names: list[str]) -> Descriptions:
    """Return the `Descriptions` of dataset `name`, without sending any request.

    They come from the corpus that `llm.corpora` names, unchanged, or else from the replies in the
    log, each sentence after the dataset's hand-crafted prompt, which names the class, as the
    sentence may not. A class without any sentence has only its prompt, which is listed as a
    problem. Raises `CorpusError`, `ParamsError` or `DamagedFile`.
    """
    template = params.datasets[name].template
    if name in params.llm.corpora:
        sentences, problems = read_corpus(params.root / params.llm.corpora[name], class_names)
        texts = sentences
    else:
        sentences, problems = parse(requests(params, name, class_names),
                                    read_log(log_path(params, name)))
        texts = {class_name: behind(template.format(class_name), sentences[class_name])
                 for class_name in class_names}
    alone = [class_name for class_name in class_names if not sentences[class_name]]
    texts |= {class_name: [template.format(class_name)] for class_name in alone}
    problems = [*problems, *(Problem(class_name, "no sentence: has the prompt alone")
                             for class_name in alone)]
    return Descriptions(texts, provenance(params, name, class_names), problems)


def load_references(params: Params, name: str, class_names: list[str],
                    sources: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Return `{source: {class: [text, ...]}}` of AAPE's reference prompts of dataset `name`.

    `llm` are the stored descriptions; `human` the sentences of the dataset's `human` file, each
    after the hand-crafted prompt, like the former. Raises what `load_descriptions` and
    `read_corpus` raise, and `CorpusError` if there is no such file or a class is not in it.
    """
    return {source: (load_descriptions(params, name, class_names).texts if source == "llm"
                     else _human(params, name, class_names)) for source in sorted(set(sources))}


def _human(params, name, class_names):
    settings = params.datasets[name]
    if settings.human is None:
        raise CorpusError(f"datasets.{name}.human names no file, which `reference: human` needs")
    sentences, _ = read_corpus(data_root(params) / settings.human, class_names)
    missing = [class_name for class_name in class_names if not sentences[class_name]]
    if missing:
        raise CorpusError(f"{settings.human}: no sentence for {', '.join(map(repr, missing))}")
    return {class_name: behind(settings.template.format(class_name), sentences[class_name])
            for class_name in class_names}


def behind(prompt: str, sentences: list[str]) -> list[str]:
    """Return each sentence with the prompt before it."""
    return [f"{prompt} {sentence}" for sentence in sentences]


def provenance(params: Params, name: str, class_names: list[str]) -> dict[str, Any]:
    """Return the provenance record of the descriptions of dataset `name`."""
    if name in params.llm.corpora:
        source: dict[str, Any] = {"corpus": file_sha256(params.root / params.llm.corpora[name])}
    else:
        path = log_path(params, name)
        asked = {"model", "n_replies", "temperature", "max_tokens", "seed", "extra"}
        source = {"replies": file_sha256(path) if path.is_file() else None,
                  "queries": read_queries(params).model_dump(),
                  "settings": params.llm.model_dump(mode="json", include=asked)}
    return {"dataset": name, "class_names": list(class_names),
            "template": params.datasets[name].template, **source}


def path_of(params: Params, name: str) -> Path:
    """Return where the descriptions of dataset `name` are stored."""
    return params.root / "artefacts" / "descriptions" / f"{name}.json"


def save(path: Path, descriptions: Descriptions) -> None:
    """Write descriptions as JSON with their digest, atomically."""
    content = descriptions._asdict() | {"sha256": descriptions.sha256}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_descriptions(params: Params, name: str, class_names: list[str]) -> Descriptions:
    """Return the stored `Descriptions` of dataset `name` for these class names.

    Raises `FileNotFoundError`, or `DamagedFile` for a file that has changed or was made for other
    classes or with other settings, naming what differs.
    """
    path = path_of(params, name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        loaded = Descriptions(content["texts"], content["provenance"],
                              [Problem(*problem) for problem in content["problems"]])
        intact = loaded.sha256 == content["sha256"]
    except FileNotFoundError:
        raise MissingFile(f"{path} does not exist; run `dvc repro describe`") from None
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise DamagedFile(f"{path} has changed since it was written; delete it and make it again")
    for key, value in provenance(params, name, class_names).items():
        if loaded.provenance.get(key) != value:
            raise DamagedFile(f"{path} was made with {key} = {loaded.provenance.get(key)!r}, but "
                              f"this run has {key} = {value!r}; run `dvc repro describe`")
    return loaded


def _sha256(content):
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
