"""Files that are whole or absent: atomic writes, digests, and tensors with their provenance.

safetensors notices a truncated file but not a flipped bit, so every tensor file written here holds
its provenance and a SHA-256 over tensors and provenance, which is checked on reading.

Importing torch takes two seconds, so commands without tensors do not import it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .errors import DamagedFile, MissingFile, StorageError

if TYPE_CHECKING:
    from torch import Tensor

AGAIN = "delete it and make it again (`dvc pull --force` restores files under data/)"
STORED = "origin"  # the provenance's key in stored tensors, as in the embedded packs
PART = ".part-"  # begins the name of a file that is being written; process id and "-" follow


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` once the block has succeeded.

    An interrupted block leaves an earlier file at `path` untouched. Raises `StorageError` naming
    `path` if the disk is full or the folder is read-only.
    """
    path = Path(path)
    try:
        with _written_whole(path) as temporary:
            yield temporary
    except (OSError, SafetensorError) as error:
        if _is_of_storage(error):
            free = shutil.disk_usage(_nearest_folder(path)).free / 1e6
            message = f"{path} cannot be written ({error}); {free:,.0f} MB are free there"
            raise StorageError(f"{message}; make room, or make the folder writable") from None
        raise


def _is_of_storage(error):
    """Does an exception say that the disk is full or cannot be written to?"""
    if isinstance(error, SafetensorError):  # it has the system's message but not its number
        return "(os error" in str(error)
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def _nearest_folder(path):
    return next(folder for folder in path.absolute().parents if folder.is_dir())


@contextmanager
def _written_whole(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{PART}{os.getpid()}-{path.stem}-",
                                    suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # temporary files are private; ours are for others to read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically (see `written_whole`)."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """Return the SHA-256 of a JSON-serialisable value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values of a dict of tensors."""
    import torch
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(value):
    """Return `value` after a round trip through JSON: lists for tuples, text for keys."""
    return json.loads(json.dumps(value))


def _seal(tensors, provenance):
    """Return a tensor file's only metadata entry: safetensors writes several in random order."""
    provenance = _plain(provenance)
    digest = hashlib.sha256(tensors_sha256(tensors).encode())
    digest.update(json.dumps(provenance, sort_keys=True).encode())
    record = {STORED: provenance, "sha256": digest.hexdigest()}
    return {"record": json.dumps(record, sort_keys=True)}


def stored_provenance(metadata: dict[str, str]) -> dict[str, Any]:
    """Return the provenance in a tensor file's metadata, unchecked; see `load_tensors`.

    Raises `KeyError`, `TypeError` or `ValueError` for metadata that `save_tensors` did not write.
    """
    return json.loads(metadata["record"])[STORED]


def save_tensors(path: Path, tensors: dict[str, Tensor], provenance: dict[str, Any]) -> None:
    """Save a dict of tensors with `provenance`, a JSON-serialisable record of what they come from.

    The same tensors and provenance give the same bytes.
    """
    from safetensors.torch import save_file
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata=_seal(tensors, provenance))


def load_tensors(path: str | Path, expected: dict[str, Any] | None = None,
                 ) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return `(tensors, provenance)` of a file that `save_tensors` wrote.

    `expected` holds the entries of `provenance` that the caller relies on.
    Raises `DamagedFile` naming the file and what is wrong: unreadable, a digest that does not
    match, or the first entry of `provenance` that differs from `expected`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise MissingFile(f"{path} does not exist; {_how_to_make(Path(path))}") from None
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"{path} cannot be read ({error}); {AGAIN}") from None
    try:
        provenance = stored_provenance(metadata)
        intact = metadata == _seal(tensors, provenance)
    except (KeyError, TypeError, ValueError):
        intact = False
    if not intact:
        raise DamagedFile(f"{path} has changed since it was written: its SHA-256 does not match; "
                          f"{AGAIN}")
    for key, value in _plain(expected or {}).items():
        if provenance.get(key) != value:
            raise DamagedFile(f"{path} was made with {key} = {_short(provenance.get(key))}, "
                              f"but this run has {key} = {_short(value)}; {AGAIN}")
    return tensors, provenance


def cached(path: Path, provenance: dict[str, Any],
           compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of `compute()`, cached at `path` so that a crash loses nothing.

    An intact file of the same `provenance` is loaded instead; any other is replaced.
    """
    try:
        return load_tensors(path, expected=provenance)[0]
    except (MissingFile, DamagedFile):
        tensors = compute()
        save_tensors(path, tensors, provenance)
        return tensors


def _short(value):
    """Return a value for a message, shortened if it is long."""
    return textwrap.shorten(repr(value), 80, placeholder=" ...")


def _how_to_make(path):
    """Say which command makes a missing file; artefacts are artefacts/STAGE/NAME."""
    if path.parent.parent.name != "artefacts":
        return "`dvc pull` fetches the embedded data"
    stage = path.parent.name
    stage = stage if stage == "shifted" else f"{stage}@{path.stem}"
    return f"`make repro` makes everything that is missing, `dvc repro {stage}` only this file"
