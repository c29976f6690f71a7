"""Files are whole or absent, and a damaged one is never taken for what it was."""

import errno
import os
import stat

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from promptstudy.errors import DamagedFile, StorageError
from promptstudy.files import (
    cached,
    file_sha256,
    load_tensors,
    save_tensors,
    tensors_sha256,
    write_text,
    written_whole,
)

PROVENANCE = {"dataset": "cats", "views": 4, "nested": {"names": ["a", "ü"]}}


def tensors():
    return {"weight": torch.arange(6.).view(2, 3), "half": torch.ones(3, dtype=torch.bfloat16),
            "labels": torch.tensor([1, -2]), "one": torch.tensor(3, dtype=torch.int8),
            "none": torch.empty(0, 4)}


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "stored.safetensors"
    save_tensors(path, tensors(), PROVENANCE)
    return path


def same(first, second):
    return first.keys() == second.keys() and all(
        first[k].dtype == second[k].dtype and torch.equal(first[k], second[k]) for k in first)


def test_tensors_and_origin_come_back(stored):
    found, provenance = load_tensors(stored, {"dataset": "cats", "nested": {"names": ["a", "ü"]}})
    assert same(found, tensors()) and provenance == PROVENANCE


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(error), written_whole(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(stored, monkeypatch):
    def full(tensors, path, metadata):
        path.write_bytes(b"begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(StorageError, match="No space left"):
        save_tensors(stored, {"weight": torch.zeros(2)}, {})
    assert same(load_tensors(stored)[0], tensors())
    assert os.listdir(stored.parent) == [stored.name]


def test_a_failed_rename_leaves_nothing(tmp_path, monkeypatch):
    def refused(source, target):
        raise PermissionError

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError):
        write_text(tmp_path / "file.txt", "new")
    assert not os.listdir(tmp_path)


def test_a_written_file_makes_its_folder_and_is_for_others_to_read(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    old = os.umask(0o022)
    try:
        write_text(path, "ü")
        save_tensors(tmp_path / "tensors", {"a": torch.ones(1)}, {})
    finally:
        os.umask(old)
    assert path.read_text(encoding="utf-8") == "ü"
    for written in (path, tmp_path / "tensors"):
        assert stat.S_IMODE(written.stat().st_mode) == 0o644


def test_every_flipped_bit_is_noticed(stored):
    content = stored.read_bytes()
    for position in range(0, 8 * len(content), 3):  # bits of every byte
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        stored.write_bytes(damaged)
        try:
            found, provenance = load_tensors(stored)
        except DamagedFile as error:
            assert str(stored) in str(error)
        else:  # the bit has no meaning
            assert same(found, tensors()) and provenance == PROVENANCE


def test_every_truncated_file_is_noticed(stored):
    content = stored.read_bytes()
    for length in range(len(content)):
        stored.write_bytes(content[:length])
        with pytest.raises(DamagedFile, match="stored.safetensors cannot be read"):
            load_tensors(stored)


def test_a_file_that_was_not_written_here_is_refused(stored):
    safetensors.torch.save_file(tensors(), stored)
    with pytest.raises(DamagedFile, match="SHA-256"):
        load_tensors(stored)
    stored.write_bytes(b"no tensors at all, but text that is long enough")
    with pytest.raises(DamagedFile, match="cannot be read"):
        load_tensors(stored)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.safetensors does not exist"):
        load_tensors(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(("expected", "message"), [
    ({"dataset": "dogs"}, "dataset = 'cats', but this run has dataset = 'dogs'"),
    ({"dataset": "cats", "views": 8}, "views = 4, but this run has views = 8"),
    ({"grid": 3}, "grid = None, but this run has grid = 3")], ids=str)
def test_a_file_made_from_something_else_is_refused_naming_what_differs(expected, message, stored):
    with pytest.raises(DamagedFile, match=message):
        load_tensors(stored, expected)


def test_the_digest_depends_on_name_type_shape_and_value():
    base = {"a": torch.zeros(2, 3)}
    others = [{"b": torch.zeros(2, 3)}, {"a": torch.zeros(2, 3, dtype=torch.int32)},
              {"a": torch.zeros(3, 2)}, {"a": torch.full((2, 3), 1e-45)},
              {"a": torch.zeros(2, 3), "b": torch.zeros(0)}]
    assert len({tensors_sha256(t) for t in (base, *others)}) == 6
    assert tensors_sha256({"a": torch.zeros(3, 2).T}) == tensors_sha256(base)
    two = {"x": torch.ones(1), "y": torch.zeros(1)}
    assert tensors_sha256(two) == tensors_sha256(dict(reversed(two.items())))


def test_the_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert file_sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_full_disk_or_read_only_folder_is_named_with_what_is_free(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("old")
    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES):
        with pytest.raises(StorageError, match=f"{path} cannot be written .*MB are free there"):
            with written_whole(path):
                raise OSError(number, os.strerror(number))
    with pytest.raises(StorageError, match="No space left"):
        with written_whole(path):
            raise SafetensorError("Error while serializing: I/O error: No space left on device "
                                  "(os error 28)")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_other_faults_inside_the_block_are_left_alone(tmp_path):
    for error in (FileNotFoundError(errno.ENOENT, "gone"), SafetensorError("bad header")):
        with pytest.raises(type(error)):
            with written_whole(tmp_path / "x"):
                raise error


class Computation:
    """Gives a tensor that counts how often it was computed."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return {"x": torch.tensor([float(self.count)])}


def test_cached_loads_what_has_the_same_provenance_and_replaces_the_rest(tmp_path):
    path, compute = tmp_path / "cached.safetensors", Computation()
    assert cached(path, {"lr": 1, "seeds": [1, 2]}, compute)["x"] == 1
    assert cached(path, {"seeds": [1, 2], "lr": 1}, compute)["x"] == 1
    for number, provenance in enumerate(({"lr": 2}, {"lr": 2, "more": 1}, {"other": 2}), start=2):
        assert cached(path, provenance, compute)["x"] == number
    assert cached(path, {"other": 2}, compute)["x"] == compute.count == 4


def test_cached_computes_again_what_has_a_flipped_bit(tmp_path):
    path, compute = tmp_path / "cached.safetensors", Computation()
    cached(path, {"lr": 1}, compute)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert cached(path, {"lr": 1}, compute)["x"] == 2
    assert load_tensors(path, {"lr": 1})[0]["x"] == 2


def test_an_interrupted_computation_leaves_nothing_behind(tmp_path):
    path = tmp_path / "folder" / "cached.safetensors"

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(path, {"lr": 1}, interrupted)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert cached(path, {"lr": 1}, Computation())["x"] == 1
