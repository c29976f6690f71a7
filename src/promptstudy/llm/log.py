"""The log of raw replies: one JSON line each, on the disk before anything else happens to it."""

import hashlib
import json
import os
import threading
from datetime import UTC, datetime
from typing import NamedTuple

from ..errors import DamagedFile
from .queries import request_key


class Reply(NamedTuple):
    """A raw reply: the key of its request, and the body of the response as it came."""

    key: str
    body: str


def read_log(path):
    """Return the `Reply`s of a log, oldest first; none if there is no such file.

    A torn last line, left by a crash, is passed over. Raises `DamagedFile` naming the first other
    line that is not as it was written.
    """
    try:
        *lines, torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    replies = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            intact = record.pop("sha256") == _digest(record)
        except (ValueError, KeyError, AttributeError):
            intact = False
        if not intact:
            raise DamagedFile(f"{path}, line {number} has changed since it was written; remove "
                              "the line, and its request will be sent again")
        replies.append(Reply(request_key(record["request"], record["index"]), record["body"]))
    return replies


class ReplyLog:
    """Appends replies to the log at `path`; several threads may use it. A context manager."""

    def __init__(self, path):
        self.path, self._lock = path, threading.Lock()

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "ab+")
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)  # drops a torn last line
        return self

    def __exit__(self, *_):
        self._file.close()

    def append(self, request, body):
        """Write a reply; it is on the disk when this returns."""
        record = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "key": request.key,
                  "request": request.body, "index": request.index, "body": body}
        line = json.dumps(record | {"sha256": _digest(record)}, ensure_ascii=False)
        with self._lock:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())


def log_path(params, name):
    """Return where the replies about dataset `name` are kept."""
    return params.root / "data" / "descriptions" / f"{name}.jsonl"


def _digest(record):
    text = json.dumps(record, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
