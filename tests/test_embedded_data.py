"""What travels with the repository, pocket CLIP and the feature packs, is whole and fits."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from conftest import SHARED
from dvc.repo import Repo
from torch.nn import functional as F

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.image_features import encode_images
from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.images import image_seed, load_image
from promptstudy.datasets.shifts import shifted
from promptstudy.datasets.splits import image_folder, load_dataset, shift_of
from promptstudy.errors import DamagedFile
from promptstudy.features import class_names, features
from promptstudy.llm.ask import estimate
from promptstudy.llm.descriptions import describe
from promptstudy.llm.log import log_path
from promptstudy.metrics import top1
from promptstudy.params import load_params

PROJECT = Path(__file__).parents[1]
PARAMS = load_params(PROJECT / "params.yaml")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(PARAMS.backbone.name, PARAMS.backbone.pretrained, PARAMS.root)


@pytest.mark.parametrize("name", PARAMS.datasets)
def test_packs_were_made_by_this_backbone_with_these_settings(backbone, name):
    pack, report = features(PARAMS, name, backbone)
    assert report.source == "pack"
    assert pack.train.views.shape[1:] == (PARAMS.features.views, pack.train.features.shape[1])
    for split in (pack.train, pack.val, pack.test):
        assert set(split.labels.unique().tolist()) == set(range(len(pack.class_names)))


@pytest.mark.parametrize("name", PARAMS.transfer.domain)
def test_shifts_are_of_four_test_images_of_every_class(backbone, name):
    pack, report = features(PARAMS, name, backbone)
    source = features(PARAMS, PARAMS.transfer.source, backbone)[0]
    assert report.source == "pack" and (len(pack.train), len(pack.val)) == (0, 0)
    assert pack.class_names == source.class_names
    assert pack.test.labels.bincount(minlength=100).unique().tolist() == [4]
    place = {path: index for index, path in enumerate(source.test.paths)}
    index = [place[path] for path in pack.test.paths]
    assert torch.equal(source.test.labels[index], pack.test.labels)
    assert [source.test.digests[i] for i in index] == pack.test.digests
    cosines = F.cosine_similarity(source.test.features[index], pack.test.features)
    assert 0.2 < cosines.mean() < 0.9  # other pictures, of the same things


def test_caltech_is_coops_own_split(backbone):
    pack = features(PARAMS, "caltech101", backbone)[0]
    assert [len(split) for split in (pack.train, pack.val, pack.test)] == [4128, 1649, 2465]
    assert len(pack.class_names) == 100


def test_pocket_clip_reaches_its_floor_without_having_seen_the_data(backbone):
    """At least 55 % zero-shot on Caltech-101's test images, where chance is 1 %."""
    pack = features(PARAMS, "caltech101", backbone)[0]
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    classes = encoder.encode_templates(pack.class_names, ["a photo of a {}."])
    scores = F.normalize(pack.test.features, dim=-1) @ classes.T
    assert top1(scores.argmax(dim=-1), pack.test.labels) >= 55


@pytest.mark.parametrize("name", PARAMS.datasets)
def test_every_class_has_recorded_descriptions(name):
    names = class_names(PARAMS, name)
    assert not estimate(PARAMS, name, names).todo
    texts = describe(PARAMS, name, names).texts
    assert list(texts) == names and min(map(len, texts.values())) >= 2
    assert log_path(PARAMS, name).stat().st_size < 1e6


def test_no_image_travels_with_the_repository():
    names = {path.suffix for path in (PROJECT / "data").rglob("*") if path.is_file()}
    assert names <= {".safetensors", ".json", ".jsonl", ".sha256", ".md"}


@pytest.mark.parametrize("where", ["weights", "pack"])
def test_one_flipped_bit_in_the_embedded_data_is_refused(tmp_path, backbone, where):
    source = {"weights": PROJECT / "data/pocket_clip", "pack": PROJECT / "data/packs"}[where]
    copy = tmp_path / "data" / source.name
    copy.mkdir(parents=True)
    for path in source.iterdir():
        if where == "weights" or path.stem == "dtd10":
            (copy / path.name).write_bytes(path.read_bytes())
    target = copy / {"weights": "open_clip_model.safetensors", "pack": "dtd10.safetensors"}[where]
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    params = PARAMS.model_copy()
    params._root = tmp_path
    with pytest.raises(DamagedFile, match="SHA-256"):
        if where == "weights":
            load_backbone(params.backbone.name, root=tmp_path)
        else:
            features(params, "dtd10", backbone)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the images")
@pytest.mark.parametrize("name", PARAMS.every_dataset)
def test_packs_hold_the_features_of_the_images(backbone, name):
    params = PARAMS.model_copy(update={"data_root": SHARED})
    params._root = PARAMS.root
    dataset, pack = load_dataset(params, name), features(PARAMS, name, backbone)[0]
    assert [item.path for item in dataset.test] == pack.test.paths
    assert [item.label for item in dataset.test] == pack.test.labels.tolist()
    chosen = torch.linspace(0, len(dataset.test) - 1, 6).long().tolist()
    images = [load_image(image_folder(params, name) / dataset.test[i].path) for i in chosen]
    if shift := shift_of(params, name):
        images = [shifted(image, shift, image_seed(pack.test.digests[i]))
                  for i, image in zip(chosen, images, strict=True)]
    extracted, _ = encode_images(backbone.model, torch.stack([*map(backbone.preprocess, images)]))
    cosines = F.cosine_similarity(extracted, pack.test.features[chosen])
    assert cosines.min() > 1 - 1e-4


REMOTE = PROJECT / "dvc-remote" / "files" / "md5"


def stored(digest):
    return REMOTE / digest[:2] / digest[2:]


def test_what_the_pipeline_learned_is_embedded():
    """So that the notebooks of a fresh clone show trained results (`make lab`)."""
    with Repo(str(PROJECT)) as repo:
        outs = {str(out): out.hash_info.value for out in repo.index.outs
                if out.use_cache and out.can_push}
    missing = [path for path, digest in outs.items() if not stored(digest).is_file()]
    assert not missing, "run `dvc push` after `make repro` and commit dvc-remote/"
    for digest in outs.values():
        if digest.endswith(".dir"):
            for entry in json.loads(stored(digest).read_text()):
                assert stored(entry["md5"]).is_file(), entry["relpath"]
    assert "artefacts/coop/dtd10.safetensors" in outs
    assert not any(path.startswith("artefacts/aape/") for path in outs)


def test_embedded_data_is_whole_and_at_most_100_megabytes():
    files = [path for path in REMOTE.rglob("*") if path.is_file()]
    for path in files:
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        assert (path.parent.name + path.name).removesuffix(".dir") == digest, path
    assert sum(path.stat().st_size for path in files) <= 100e6
