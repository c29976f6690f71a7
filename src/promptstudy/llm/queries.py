"""Queries about a class, read from a file and made into requests, each with a key."""

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from ..errors import ParamsError
from ..params import Block, Params, read_block


class Queries(Block):
    """The queries file: in `subjects`, {} stands for the class.

    In `queries`, {} stands for the subject with its article, {name} for the subject without it.
    """

    system: str | None = Field(None, description="system message of every request")
    subjects: dict[str, str] = Field(
        {}, description="dataset: how its class names read in a query; default: as they are")
    queries: Annotated[list[str], Field(min_length=1)]


class Request:
    """One request for one reply: `body` is the whole JSON that is sent.

    Attributes: class_name, query (its number), index (of the reply) and body.
    """

    def __init__(self, class_name: str, query: int, index: int, body: dict[str, Any]) -> None:
        self.class_name, self.query, self.index, self.body = class_name, query, index, body

    @cached_property
    def key(self) -> str:
        """SHA-256 over everything the reply depends on: body and index."""
        return request_key(self.body, self.index)


def request_key(body: dict[str, Any], index: int) -> str:
    """Return the key of a request in the log of replies, as 64 hexadecimal digits."""
    text = json.dumps([body, index], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_queries(params: Params) -> Queries:
    """Return the suite's `Queries`; raises `ParamsError` listing every fault of the file."""
    path = params.root / params.llm.queries
    queries = read_block(path, Queries)
    for text in queries.subjects.values():
        if not _has_one(text, "{}"):
            raise ParamsError(f"{path} cannot be used: {text!r} needs {{}} once, for the class")
    for text in queries.queries:
        if not _has_one(text, "{}", "{name}"):
            raise ParamsError(f"{path} cannot be used: {text!r} needs {{}} once, for the class "
                              "with its article, or {name}, for the class without it")
    return queries


def _has_one(text, *places):
    """Return whether a text has one of the places once, and no other braces."""
    return [text.count(brace) for brace in "{}"] == [1, 1] == [1, sum(map(text.count, places))]


def requests(params: Params, name: str, class_names: list[str]) -> list[Request]:
    """Return the `Request`s of dataset `name`: every class, query and reply, in this order.

    Classes that share a name, as some of ImageNet's do, are asked about once.
    """
    queries = read_queries(params)
    subject = queries.subjects.get(name, "{}")
    return [Request(class_name, query, index,
                    _body(params.llm, queries.system,
                          _question(text, subject.format(class_name)), index))
            for class_name in dict.fromkeys(class_names)
            for query, text in enumerate(queries.queries)
            for index in range(params.llm.n_replies)]


def _body(settings, system, question, index):
    messages = [{"role": "system", "content": system}] if system else []
    body = {"model": settings.model, "messages": [*messages, {"role": "user", "content": question}],
            "temperature": settings.temperature, "max_tokens": settings.max_tokens,
            "seed": None if settings.seed is None else settings.seed + index}
    return {key: value for key, value in body.items() if value is not None} | settings.extra


def _question(text, subject):
    """Return a query about a subject; its article follows the first letter, not the sound."""
    article = "an" if subject[0].lower() in "aeiou" else "a"
    return text.format(f"{article} {subject}", name=subject)
