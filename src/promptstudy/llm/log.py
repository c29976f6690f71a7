"""The log of raw replies: one JSON line per reply, on disk before anything else happens to it.

Each line has a digest of its own. Beside the log, `<log>.sha256` has a line for each of its lines,
the SHA-256 of the log up to there, which shows if lines are lost, moved or exchanged. It is written
after the log, so the log may be ahead of it after a crash, and an old log may have none: lines that
it does not cover are read all the same, and covered when the next reply comes.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from ..errors import DamagedFile
from ..files import write_text
from ..params import Params
from .queries import Request, request_key


class Reply(NamedTuple):
    """A raw reply: the key of its request, and the body of the response (see `clean_body`)."""

    key: str
    body: str


def read_log(path: Path) -> list[Reply]:
    """Return the `Reply`s of a log, oldest first; none if there is no such file.

    A torn last line, left by a crash, is skipped. Raises `DamagedFile` naming the first other line
    that has changed.
    """
    return _read(path)[0]


class ReplyLog:
    """Appends replies to the log at `path`. A context manager; raises `DamagedFile`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests: IO[str] | None = None

    def __enter__(self):
        self._so_far = _read(self.path)[1]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "ab+")
        self._file.seek(0)
        content = self._file.read()
        size = content.rfind(b"\n") + 1
        self._file.truncate(size)  # drops a torn last line
        self._running = hashlib.sha256(content[:size])
        return self

    def __exit__(self, *_):
        self._file.close()
        if self._digests:
            self._digests.close()

    def append(self, request: Request, body: str, changes: dict[str, str | None] | None = None,
               ) -> None:
        """Write a reply; it is on disk when this returns.

        `changes` are those that the endpoint made necessary in the request (see `adapt`).
        """
        record = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "key": request.key,
                  "request": request.body, **({"changes": changes} if changes else {}),
                  "index": request.index, "body": body}
        text = json.dumps(record | {"sha256": _digest(record)}, ensure_ascii=False)
        line = text.encode() + b"\n"
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._digests is None:  # only now, so that reading a log does not change it
            write_text(_beside(self.path), "".join(f"{digest}\n" for digest in self._so_far))
            self._digests = open(_beside(self.path), "a", encoding="ascii")
        self._running.update(line)
        self._digests.write(self._running.hexdigest() + "\n")
        self._digests.flush()


def log_path(params: Params, name: str) -> Path:
    """Return where the replies about dataset `name` are stored."""
    return params.root / "data" / "descriptions" / f"{name}.jsonl"


def _read(path):
    """Return the replies of a log and the digest of the log up to each; see `read_log`."""
    # in this order, as a run that is asking writes the log first; a torn line is not counted
    expected = _beside(path).read_bytes().split(b"\n")[:-1] if _beside(path).is_file() else []
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return [], []
    running, replies, digests = hashlib.sha256(), [], []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            intact = record.pop("sha256") == _digest(record)
        except (ValueError, KeyError, AttributeError):
            intact = False
        if not intact:
            raise DamagedFile(f"{path}, line {number} has changed since it was written; "
                              "restore the file from a copy, or remove the line"
                              f"{_and_beside(path)}, and its request will be sent again")
        running.update(line + b"\n")
        digests.append(running.hexdigest())
        if number <= len(expected) and expected[number - 1] != digests[-1].encode():
            raise DamagedFile(f"{path}, line {number} is not the line that was written there: "
                              "lines were removed, moved or exchanged; restore the file from a "
                              f"copy, or delete {_beside(path).name} to go on with the lines that "
                              "are there")
        replies.append(Reply(request_key(record["request"], record["index"]), record["body"]))
    if len(lines) < len(expected):
        raise DamagedFile(f"{path}, line {len(lines) + 1} is missing or cut, and "
                          f"{len(expected)} lines were written; restore the file from a copy, or "
                          f"delete {_beside(path).name} to go on with the lines that are there, "
                          "and the requests of the others will be sent again")
    return replies, digests


def _beside(path):
    """Return the path of a log's digests."""
    return path.with_name(f"{path.name}.sha256")


def _and_beside(path):
    return f" and delete {_beside(path).name}" if _beside(path).is_file() else ""


def _digest(record):
    text = json.dumps(record, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
