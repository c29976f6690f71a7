"""Chat completions: the part of a response that is read, whole or streamed."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, JsonValue, ValidationError

from .clean import one_line, printable

Text = Annotated[str, AfterValidator(printable)]


class BadReply(ValueError):
    """The endpoint's response is not a chat completion; asking again may give one."""


class Usage(BaseModel):
    """Tokens that a reply has cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Message(BaseModel):
    """What the model said."""

    content: Text | None = None
    refusal: Text | None = None


class Choice(BaseModel):
    """One reply of a response."""

    message: Message
    finish_reason: str | None = None


class Completion(BaseModel):
    """The part of a chat completion that is read."""

    choices: Annotated[list[Choice], Field(min_length=1)]
    usage: Usage | None = None


class Piece(BaseModel):
    """One reply's part of a chunk."""

    index: int = 0
    delta: Message = Message()
    finish_reason: str | None = None


class Chunk(BaseModel):
    """The part of a streamed chunk that is read."""

    choices: list[Piece] = []
    usage: Usage | None = None
    error: JsonValue = None


def read_completion(body: str) -> Completion:
    """Return the `Completion` of a response's body; raises `BadReply` with the reason."""
    return _read(Completion, body)


def is_stream(body: str) -> bool:
    """Return whether a body consists of server-sent events."""
    return re.match(r"\s*(?:data|event|id|retry)?:", body) is not None


def put_together(stream: str) -> str:
    """Return the completion that streamed chunks form, as a JSON body.

    Raises `BadReply` if the stream holds an error or ends before the reply does.
    """
    said: list[str] = []
    refused: list[str] = []
    finish_reason, usage, done = None, None, False
    for line in re.split(r"\r\n|\r|\n", stream):
        field, _, data = line.partition(":")
        if field.strip() != "data" or not data.strip():
            continue
        if data.strip() == "[DONE]":
            done = True
            break
        chunk = _read(Chunk, data)
        if chunk.error is not None:
            error = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
            raise BadReply(f"an error in the stream: {one_line(printable(str(error)))}")
        usage = chunk.usage or usage
        for piece in chunk.choices:
            if piece.index == 0:
                said.append(piece.delta.content or "")
                refused.append(piece.delta.refusal or "")
                finish_reason = piece.finish_reason or finish_reason
    if not done and finish_reason is None:
        raise BadReply("a stream that was cut")
    message = Message(content="".join(said), refusal="".join(refused) or None)
    return Completion(choices=[Choice(message=message, finish_reason=finish_reason)],
                      usage=usage).model_dump_json()


def _read(model, body):
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            html = body.lstrip()[:1] == "<"
            raise BadReply("HTML instead of JSON" if html else "cut or malformed JSON") from None
        place = ".".join(map(str, fault["loc"])) or "the whole"
        raise BadReply(f"wrong schema: {place}: {fault['msg'].lower()}") from None
