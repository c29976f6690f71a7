"""Read a YAML file as a typed block; every fault is reported with its key and what to write."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import ValidationError

from ..errors import ParamsError
from ..names import number_as_key
from ..textfiles import read_text
from .blocks import Block

Model = TypeVar("Model", bound=Block)


def read_block(path: Path, model: type[Model]) -> Model:
    """Return the YAML file at `path` as a `model`, a kind of `Block`.

    Raises `ParamsError` listing every fault: the key, what is wrong, and the nearest valid key.
    """
    try:
        # DVC reads only UTF-8
        values = yaml.safe_load(read_text(path, ParamsError, utf8_only=True))
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    except RecursionError:
        raise ParamsError(f"{path} is not valid YAML: its brackets are nested too deeply") from None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = "\n".join(f"  {_describe(fault, model)}" for fault in error.errors())
        raise ParamsError(f"{path} cannot be used:\n{faults}") from None


def _describe(fault, model):
    """Say in one line which key is wrong, why, and what would be right."""
    key = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        valid = _keys_at(model, fault["loc"][:-1])
        return f"{key}: unknown key" + nearest(fault["loc"][-1], valid)
    if fault["type"] == "string_type" and fault["loc"][-1] == "[key]":
        return number_as_key(".".join(map(str, fault["loc"][:-2])), fault["input"])
    value = "" if fault["type"] == "missing" else f" (found {fault['input']!r})"
    return f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}{value}"


def _keys_at(model: Any, location: Iterable[Any]) -> Iterable[str]:
    """The keys that the block at `location` of a `model` may have."""
    for part in location:
        annotation = model[1] if isinstance(model, tuple) else model.model_fields[part].annotation
        arguments = [a for a in getattr(annotation, "__args__", ()) if a is not type(None)]
        if get_origin(annotation) in (dict, list):
            # the next part, a name given by the user or a number, selects a block in it
            model = (dict, arguments[-1])
        else:
            model = arguments[0] if arguments else annotation  # a block, perhaps optional
    return model.model_fields


def nearest(word: object, valid: Iterable[object]) -> str:
    match = difflib.get_close_matches(str(word), list(map(str, valid)), n=1, cutoff=0)
    return f"; did you mean {match[0]!r}?" if match else ""
