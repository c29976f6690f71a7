"""Feature packs and their extraction: precision, damage, other origins, interruption."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import VIT, changed, cosine_error, draw_pictures, save_clip
from torchvision.transforms.functional import pil_to_tensor

from promptstudy import batches
from promptstudy import features as module
from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.image_features import (
    encode_images,
    pool_grid,
    tower_input,
    training_crop,
)
from promptstudy.datasets import draws
from promptstudy.datasets.images import image_seed, load_image
from promptstudy.datasets.packs import FeaturePack, compact, expand
from promptstudy.datasets.shifts import shifted
from promptstudy.datasets.subsets import few_shot_draw
from promptstudy.errors import DamagedFile, DatasetError
from promptstudy.features import build_packs, extract, features, pack_path
from promptstudy.files import file_sha256, load_tensors, save_tensors
from promptstudy.methods import linear_probe
from promptstudy.params import DatasetParams, TargetParams, load_params


def load(root):
    return load_params(root / "params.yaml")


@pytest.fixture
def pack(tiny_suite, tiny_backbone, tmp_path):
    """A freshly extracted pack of the figures."""
    return extract(load(tiny_suite), "figures", tiny_backbone, tmp_path)


@pytest.fixture
def small_shards(monkeypatch):
    """Extraction that is written in seven shards (of 24, 12 and 12 images)."""
    monkeypatch.setattr(module, "SHARD", 10)


# precision


@pytest.mark.parametrize("d", [16, 192, 512, 1000, 1024])
def test_compact_form_is_precise(d):
    generator = torch.Generator().manual_seed(d)
    vectors = torch.randn(500, d, generator=generator)
    assert cosine_error(expand(*compact(vectors)), vectors) < 1e-4
    outlier = vectors.clone()
    outlier[:, d // 3] = 0.7 * d ** 0.5  # as some dimensions of CLIP's ViTs are
    assert cosine_error(expand(*compact(outlier)), outlier) < 1e-4
    for scale in (1e-6, 1e6):
        assert cosine_error(expand(*compact(vectors * scale)), vectors) < 1e-4


def test_compact_form_has_a_bound_for_any_vector():
    generator = torch.Generator().manual_seed(0)
    heavy = torch.randn(2000, 64, generator=generator) ** 7
    assert cosine_error(expand(*compact(heavy)), heavy) < 2.5e-4
    assert torch.equal(expand(*compact(torch.zeros(2, 64))), torch.zeros(2, 64))


def test_pack_holds_the_features_of_the_images(pack, tiny_suite, tiny_backbone):
    folder = tiny_suite / "images" / "figures" / "pictures"
    model = tiny_backbone.model
    crop, to_input = training_crop(model), tower_input(model, "cpu")
    for n, (path, digest) in enumerate(zip(pack.train.paths, pack.train.digests, strict=True)):
        image = load_image(folder / path)
        views = [pil_to_tensor(crop(image, image_seed(digest) + v)) for v in range(2)]
        pictures = [tiny_backbone.preprocess(image), *to_input(torch.stack(views))]
        whole, local = encode_images(model, torch.stack(pictures))
        assert cosine_error(pack.train.features[n], whole[0]) < 1e-6
        assert cosine_error(pack.train.local[n], pool_grid(local[:1], 2)[0]) < 1e-4
        assert cosine_error(pack.train.views[n], whole[1:]) < 1e-4
    assert pack.train.labels.tolist() == [label for label in range(6) for _ in range(4)]
    assert pack.class_names[3] == "yellow square"
    assert (len(pack.train), len(pack.val), len(pack.test)) == (24, 12, 12)
    assert pack.val.views.shape == (12, 0, 16)
    assert {tensor.dtype for tensor in (pack.train.features, pack.train.local, pack.train.views)
            } == {torch.float32}


def test_saved_and_loaded_pack_is_the_same(pack, tmp_path):
    pack.save(tmp_path / "pack.safetensors")
    loaded = FeaturePack.load(tmp_path / "pack.safetensors", pack.provenance)
    for split in ("train", "val", "test"):
        mine, other = getattr(pack, split), getattr(loaded, split)
        for name in ("features", "labels", "local", "views"):
            assert torch.equal(getattr(mine, name), getattr(other, name))
        assert (mine.paths, mine.digests) == (other.paths, other.digests)
    loaded.save(tmp_path / "again.safetensors")
    assert ((tmp_path / "pack.safetensors").read_bytes()
            == (tmp_path / "again.safetensors").read_bytes())


def test_views_depend_on_the_image_alone(pack, own_suite, tiny_backbone, tmp_path):
    """Other names, another order and another batch size give the same views up to rounding."""
    old = own_suite / "images" / "figures" / "pictures"
    for path in pack.train.paths:
        target = own_suite / "images" / "mine" / "train" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (old / path).rename(target.with_stem(f"{9 - int(target.stem)}"))
    draw_pictures(own_suite / "images" / "mine" / "test", ["red disc"], count=1, seed=3)
    params = load(own_suite)
    params = changed(params, datasets={"mine": DatasetParams(images="mine")},
                     features=params.features.model_copy(update={"batch_size": 5}))
    other = extract(params, "mine", tiny_backbone, tmp_path / "other")
    assert len(other.val) == 0 and other.val.features.shape == (0, 16) and other.val.paths == []
    where = {digest: n for n, digest in enumerate(other.train.digests)}
    order = [where[digest] for digest in pack.train.digests]
    assert order != sorted(order)
    assert cosine_error(other.train.views[order], pack.train.views) < 1e-4
    assert cosine_error(other.train.features[order], pack.train.features) < 1e-6


def test_no_views(tiny_suite, tiny_backbone, tmp_path):
    params = load(tiny_suite)
    params = changed(params, features=params.features.model_copy(update={"views": 0}))
    pack = extract(params, "figures", tiny_backbone, tmp_path)
    assert pack.train.views.shape == (24, 0, 16)


def test_only_a_few_images_are_in_memory_at_once(tiny_suite, tiny_backbone, tmp_path, monkeypatch):
    """Two a process are decoded ahead of the batch at hand, however many a data set or shard has.
    """
    params, decoded, encoded, ahead = load(tiny_suite), tmp_path / "decoded", [], []
    params = changed(params, features=params.features.model_copy(update={"batch_size": 3}))
    load_one, encode = batches.load_image, module.encode_batch

    def counting_load(path):  # in another process, so it is counted in a file
        with decoded.open("ab") as file:
            file.write(b".")
        return load_one(path)

    def counting_encode(model, images, *arguments):
        ahead.append(decoded.stat().st_size - sum(encoded))
        encoded.append(len(images))
        return encode(model, images, *arguments)

    monkeypatch.setattr(batches, "load_image", counting_load)
    monkeypatch.setattr(module, "encode_batch", counting_encode)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    extract(params, "figures", tiny_backbone, tmp_path / "cache")
    assert sum(encoded) == decoded.stat().st_size == 48
    assert max(encoded) == 3 and max(ahead) <= 3 + 2 * 2


def test_features_that_are_not_finite_are_refused(own_suite, tmp_path):
    backbone = load_backbone("local-dir:data/clip", root=own_suite)
    with torch.no_grad():
        backbone.model.visual.proj[0, 0] = float("nan")
    with pytest.raises(ValueError, match="features that are not finite"):
        extract(load(own_suite), "figures", backbone, tmp_path)


# shifted versions


def test_pack_of_a_shift_holds_the_features_of_shifted_test_images(tiny_suite, tiny_backbone,
                                                                   tmp_path):
    params = load(tiny_suite)
    pack = extract(params, "lines", tiny_backbone, tmp_path)
    assert (len(pack.train), len(pack.val), len(pack.test)) == (0, 0, 7)
    assert pack.train.features.shape == (0, 16) and pack.train.views.shape == (0, 0, 16)
    assert pack.val.local.shape == (0, 4, 16) and pack.train.paths == []
    folder = tiny_suite / "images" / "shapes"
    for n, (path, digest) in enumerate(zip(pack.test.paths, pack.test.digests, strict=True)):
        assert digest == file_sha256(folder / path)  # of the image that was shifted
        image = shifted(load_image(folder / path), "sketch", image_seed(digest))
        whole, local = encode_images(tiny_backbone.model, tiny_backbone.preprocess(image)[None])
        assert cosine_error(pack.test.features[n], whole[0]) < 1e-6
        assert cosine_error(pack.test.local[n], pool_grid(local, 2)[0]) < 1e-4


def test_stored_pack_of_a_shift_is_used_and_compared(own_suite, tiny_backbone):
    params = load(own_suite)
    build_packs(params, ["lines"])
    pack, report = features(without_images(params), "lines", tiny_backbone)
    assert (report.source, report.n_images, len(pack.train)) == ("pack", 7, 0)
    assert features(params, "lines", tiny_backbone)[1].agrees
    for change in ({"per_class": 2}, {"source": "figures"},
                   {"domain": {"lines": TargetParams(shift="small")}}):
        other = changed(params, transfer=params.transfer.model_copy(update=change))
        with pytest.raises(DamagedFile, match="was made with shift = .*'sketch', 'shapes', 1"):
            features(without_images(other), "lines", tiny_backbone)


def test_a_shift_that_is_programmed_anew_is_computed_again(tiny_suite, tiny_backbone, tmp_path,
                                                           monkeypatch):
    params, calls = load(tiny_suite), []
    encode = module._encode
    monkeypatch.setattr(module, "_encode", lambda *args: calls.append(None) or encode(*args))
    for _ in range(2):
        extract(params, "lines", tiny_backbone, tmp_path)
    assert len(calls) == 1
    monkeypatch.setattr(module, "file_sha256", lambda path: "another")
    extract(params, "lines", tiny_backbone, tmp_path)
    assert len(calls) == 2


# large datasets


def test_of_a_large_dataset_the_drawn_images_alone_are_encoded(
        pack, tiny_suite, tiny_backbone, tmp_path, monkeypatch):
    """24 training images count as many here; not all are drawn by one and two shots, two seeds."""
    monkeypatch.setattr(draws, "WHOLE", 23)
    params = load(tiny_suite)
    large = extract(params, "figures", tiny_backbone, tmp_path)
    assert 12 <= len(large.train) < 24 and set(large.train.paths) < set(pack.train.paths)
    assert (large.val.paths, large.test.paths) == (pack.val.paths, pack.test.paths)
    for shots in (1, 2):
        for seed in (1, 2):
            expected = few_shot_draw(pack.train.labels, pack.val.labels, shots, seed)
            drawn = large.draw(shots, seed)
            for split, mine, theirs in zip(("train", "val"), drawn, expected, strict=True):
                assert ([getattr(large, split).paths[index] for index in mine]
                        == [getattr(pack, split).paths[index] for index in theirs])
    large.save(tmp_path / "pack.safetensors")
    loaded = FeaturePack.load(tmp_path / "pack.safetensors", large.provenance)
    probes, whole_probes = (linear_probe.fit_all(params, p) for p in (loaded, pack))
    assert all(torch.equal(probes[name], whole_probes[name]) for name in whole_probes)
    with pytest.raises(DatasetError, match="not with 4 shots and seed 1; make them again"):
        loaded.draw(4, 1)
    other = extract(changed(params, seeds=[1, 3]), "figures", tiny_backbone, tmp_path)
    other.draw(2, 3)
    assert other.provenance["images"] != large.provenance["images"]


# damage


def flipped_places(content):
    """Bits to flip: every byte of the header once, and places in each tensor's values."""
    header = 8 + int.from_bytes(content[:8], "little")
    yield from ((place, place % 8) for place in range(header))
    step = max(1, (len(content) - header) // 200)
    yield from ((place, place % 8) for place in range(header, len(content), step))


def test_every_flipped_bit_is_noticed(pack, tmp_path):
    path = tmp_path / "pack.safetensors"
    pack.save(path)
    content = path.read_bytes()
    for place, bit in flipped_places(content):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match="pack.safetensors .*make it again"):
            FeaturePack.load(path)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_cut_pack_is_noticed(pack, tmp_path, length):
    path = tmp_path / "pack.safetensors"
    pack.save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedFile, match="cannot be read"):
        FeaturePack.load(path)


def test_same_tensors_give_the_same_bytes(tmp_path):
    """safetensors writes several metadata entries in a new order every time."""
    path, contents = tmp_path / "a.safetensors", set()
    for n in range(10):
        tensors = {"a": torch.zeros(3), "b": torch.ones(2)}
        provenance = {"x": {2: (1, 2), 10: "a"}, "y": 1}
        if n % 2:
            tensors, provenance = (dict(reversed(d.items())) for d in (tensors, provenance))
        save_tensors(path, tensors, provenance)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert load_tensors(path, {"x": {2: (1, 2), 10: "a"}})[1]["y"] == 1


# other origins


def test_pack_of_another_class_list_is_refused(pack, tmp_path):
    pack.save(tmp_path / "pack.safetensors")
    with pytest.raises(DamagedFile, match="was made with class_names = "):
        FeaturePack.load(tmp_path / "pack.safetensors", {"class_names": pack.class_names[::-1]})


def without_images(params):
    return changed(params, data_root=None)


def test_stored_pack_is_used_without_images(own_suite, tiny_backbone):
    params = load(own_suite)
    build_packs(params, ["figures"])
    pack, report = features(without_images(params), "figures", tiny_backbone)
    assert (report.source, report.n_images, report.agrees) == ("pack", 48, None)
    assert pack.train.features.shape == (24, 16)


@pytest.mark.parametrize("settings, message", [
    ({"views": 3}, "made with views = 2, but this run has views = 3"),
    ({"local_grid": 1}, "made with local_grid = 2, but this run has local_grid = 1")])
def test_stored_pack_of_other_settings_is_refused(own_suite, tiny_backbone, settings, message):
    params = load(own_suite)
    build_packs(params, ["figures"])
    other = changed(params, features=params.features.model_copy(update=settings))
    with pytest.raises(DamagedFile, match=message):
        features(without_images(other), "figures", tiny_backbone)


def test_stored_pack_of_another_image_tower_is_refused(own_suite, tiny_backbone):
    params = load(own_suite)
    build_packs(params, ["figures"])
    save_clip(own_suite / "data" / "clip", VIT, seed=1)
    other = load_backbone("local-dir:data/clip", root=own_suite)
    with pytest.raises(DamagedFile, match=f"image_fingerprint = '{tiny_backbone.image_fingerprint}"
                                          f"', but this run has image_fingerprint = "):
        features(without_images(params), "figures", other)
    pack, report = features(params, "figures", other)  # from the images it works, uncompared
    assert pack.provenance["image_fingerprint"] == other.image_fingerprint and not report.compared


def test_neither_images_nor_pack(own_suite, tiny_backbone):
    with pytest.raises(DatasetError, match="no features for dataset 'figures'.*run `dvc pull` .* "
                                           "or set data_root"):
        features(without_images(load(own_suite)), "figures", tiny_backbone)


def test_images_are_compared_with_the_stored_pack(own_suite, tiny_backbone):
    params = load(own_suite)
    assert features(params, "figures", tiny_backbone)[1].agrees is None
    build_packs(params, ["figures"])
    report = features(params, "figures", tiny_backbone)[1]
    assert report.agrees and report.largest_error < 1e-6
    changed_path = own_suite / "images" / "figures" / "pictures" / "striped" / "003.png"
    load_image(changed_path).rotate(90).save(changed_path)
    with pytest.warns(UserWarning, match="the images of figures do not give .* 1 images differ"):
        report = features(params, "figures", tiny_backbone)[1]
    assert report.differing_images == ("striped/003.png",) and report.agrees is False


def test_other_features_of_the_same_images_are_reported(own_suite, tiny_backbone):
    params = load(own_suite)
    build_packs(params, ["figures"])
    path = pack_path(params, "figures")
    tensors, provenance = load_tensors(path)
    tensors["test.features"] = tensors["test.features"].roll(1, 0)
    save_tensors(path, tensors, provenance)
    with pytest.warns(UserWarning, match="0 images differ, the largest difference"):
        report = features(params, "figures", tiny_backbone)[1]
    assert report.largest_error > 0.01 and not report.differing_images


# interruption


class Interrupted(Exception):
    pass


def test_interrupted_extraction_goes_on(tiny_suite, tiny_backbone, tmp_path, monkeypatch,
                                        small_shards):
    params = load(tiny_suite)
    expected = tmp_path / "whole" / "figures.safetensors"
    extract(params, "figures", tiny_backbone, expected.parent)
    assert [path.name for path in expected.parent.iterdir()] == [expected.name]

    encode, calls = module.encode_batch, []

    def fragile(*arguments):
        calls.append(None)
        if len(calls) == 3:
            raise Interrupted
        return encode(*arguments)

    monkeypatch.setattr(module, "encode_batch", fragile)
    with pytest.raises(Interrupted):
        extract(params, "figures", tiny_backbone, tmp_path / "cut")
    shards = tmp_path / "cut" / "figures"
    assert sorted(path.name for path in shards.iterdir()) == [
        "train-00000.safetensors", "train-00001.safetensors"]
    (shards / "train-00001.safetensors").write_bytes(b"damaged")
    extract(params, "figures", tiny_backbone, tmp_path / "cut")
    assert len(calls) == 3 + 6  # of seven batches, one was not encoded again
    assert (tmp_path / "cut" / "figures.safetensors").read_bytes() == expected.read_bytes()
    assert not shards.exists()
    extract(params, "figures", tiny_backbone, tmp_path / "cut")
    assert len(calls) == 9  # the finished pack is kept


def test_shards_of_other_settings_are_not_used(tiny_suite, tiny_backbone, tmp_path, monkeypatch,
                                               small_shards):
    params = load(tiny_suite)
    other = changed(params, features=params.features.model_copy(update={"local_grid": 1}))
    with monkeypatch.context() as patch:
        patch.setattr(module.FeaturePack, "save", lambda self, path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            extract(other, "figures", tiny_backbone, tmp_path)
    assert extract(params, "figures", tiny_backbone, tmp_path).train.local.shape == (24, 4, 16)


SLOW = """
import sys, time
from pathlib import Path
from promptstudy import batches
from promptstudy import features as module
from promptstudy.clip.backbone import load_backbone
from promptstudy.params import load_params
root, cache = map(Path, sys.argv[1:])
module.SHARD, encode = 10, module.encode_batch
module.encode_batch = lambda *arguments: time.sleep(1) or encode(*arguments)
params = load_params(root / "params.yaml")
backbone = load_backbone(params.backbone.name, root=root)
module.extract(params, "figures", backbone, cache)
"""


def test_killed_extraction_goes_on(tiny_suite, tiny_backbone, tmp_path, monkeypatch, small_shards):
    params = load(tiny_suite)
    extract(params, "figures", tiny_backbone, tmp_path / "whole")
    process = subprocess.Popen([sys.executable, "-c", SLOW, tiny_suite, tmp_path / "cut"],
                               stderr=subprocess.DEVNULL)
    first = tmp_path / "cut" / "figures" / "train-00000.safetensors"
    while not first.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list(first.parent.glob("[!.]*.safetensors")))
    assert 1 <= finished < 7
    encode, calls = module.encode_batch, []
    monkeypatch.setattr(module, "encode_batch",
                        lambda *arguments: calls.append(None) or encode(*arguments))
    extract(params, "figures", tiny_backbone, tmp_path / "cut")
    assert len(calls) == 7 - finished
    assert ((tmp_path / "cut" / "figures.safetensors").read_bytes()
            == (tmp_path / "whole" / "figures.safetensors").read_bytes())
