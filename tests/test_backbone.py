"""Backbones load frozen, and wrong or damaged weights are refused."""

import json
import shutil
from dataclasses import replace

import open_clip
import pytest
import torch
from open_clip import factory, pretrained
from safetensors.torch import save_file

from promptstudy.clip.backbone import load_backbone
from promptstudy.errors import DamagedFile
from promptstudy.files import file_sha256

CONFIG = {"embed_dim": 24,
          "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16,
                         "patch_size": 16},
          "text_cfg": {"width": 32, "heads": 2, "layers": 1}}


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """open_clip knows `small` and `small-quickgelu`, with weights `quick` and `usual`."""
    monkeypatch.setitem(factory._MODEL_CONFIGS, "small", CONFIG)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "small-quickgelu", CONFIG | {"quick_gelu": True})
    weights = tmp_path / "small.safetensors"
    save_file(open_clip.create_model("small").state_dict(), weights)
    tags = {"quick": {"file": str(weights), "quick_gelu": True}, "usual": {"file": str(weights)}}
    monkeypatch.setitem(pretrained._PRETRAINED, "small", tags)
    monkeypatch.setitem(pretrained._PRETRAINED, "small-quickgelu", tags)
    return weights


@pytest.fixture
def folder(registered, tmp_path):
    """A model folder `model` in `tmp_path`."""
    folder = tmp_path / "model"
    folder.mkdir()
    weights = registered.rename(folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    (folder / "build.json").write_text(json.dumps({"weights_sha256": file_sha256(weights)}))
    return folder


def test_a_folder_gives_a_frozen_model(folder, tmp_path):
    backbone = load_backbone("local-dir:model", root=tmp_path)
    assert backbone.name == "model" and not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert backbone.logit_scale == pytest.approx(1 / 0.07)
    assert backbone.tokenizer(["a cat"]).shape == (1, 77)
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}


def test_a_tag_and_a_file_give_the_same_weights(registered):
    by_tag = load_backbone("small-quickgelu", "quick")
    by_file = load_backbone("small", str(registered))
    assert by_tag.image_fingerprint == by_file.image_fingerprint
    assert by_tag.text_fingerprint == by_file.text_fingerprint


@pytest.mark.parametrize(("name", "tag", "advice"), [
    ("small", "quick", "'small-quickgelu'"), ("small-quickgelu", "usual", "'small'"),
    ("RN50", "openai", "'RN50-quickgelu'")])
def test_the_wrong_activation_is_refused(name, tag, advice, registered, monkeypatch):
    # weights are not reached: the network is not asked
    monkeypatch.setitem(pretrained._PRETRAINED, "RN50", {
        "openai": pretrained._PRETRAINED["RN50"]["openai"] | {"file": str(registered)}})
    with pytest.raises(ValueError, match=f"another activation .*use {advice}"):
        load_backbone(name, tag)


def test_an_unknown_model_is_refused(registered):
    with pytest.raises(ValueError, match="'RN51' is not an open_clip model"):
        load_backbone("RN51")


def test_unknown_weights_are_refused(registered):
    with pytest.raises(ValueError, match="'nothing' is neither a file nor .* 'small': .*'quick'"):
        load_backbone("small", "nothing")


def test_a_flipped_bit_in_the_weights_is_refused(folder, tmp_path):
    weights = folder / "open_clip_model.safetensors"
    content = weights.read_bytes()
    for position in (9, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 4
        weights.write_bytes(damaged)
        with pytest.raises(DamagedFile, match="open_clip_model.safetensors has changed"):
            load_backbone("local-dir:model", root=tmp_path)


@pytest.mark.parametrize("missing", ["build.json", "open_clip_model.safetensors",
                                     "open_clip_config.json"])
def test_a_folder_that_is_not_complete_is_refused(missing, folder, tmp_path):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        load_backbone("local-dir:model", root=tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.* does not exist; `dvc pull`"):
        load_backbone("local-dir:absent", root=tmp_path)


def changed(backbone, name):
    """A copy whose weight `name` differs by one step of its last value (fingerprints not kept)."""
    value = backbone.model.get_parameter(name).data
    value.view(-1)[-1] = torch.nextafter(value.view(-1)[-1], torch.tensor(torch.inf))
    return replace(backbone)


@pytest.mark.parametrize("part", ["image", "text"])
def test_each_fingerprint_depends_on_its_own_tower_alone(part, folder, tmp_path):
    backbone = load_backbone("local-dir:model", root=tmp_path)
    names = [name for name, _ in backbone.model.named_parameters()
             if name.startswith("visual.") == (part == "image") and name != "logit_scale"]
    before = backbone.image_fingerprint, backbone.text_fingerprint
    other, own = before[::-1] if part == "image" else before
    for name in names:
        after = changed(backbone, name)
        found = after.image_fingerprint, after.text_fingerprint
        other_after, own_after = found[::-1] if part == "image" else found
        assert other_after == other and own_after != own
        own = own_after


def test_the_image_fingerprint_depends_on_the_transform(folder, tmp_path):
    before = load_backbone("local-dir:model", root=tmp_path)
    (folder / "open_clip_config.json").write_text(json.dumps(
        {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}))
    after = load_backbone("local-dir:model", root=tmp_path)
    assert after.image_fingerprint != before.image_fingerprint
    assert after.text_fingerprint == before.text_fingerprint


@pytest.mark.parametrize("record", ["", '{"weights_sha', "[]", '{"about": "x"}'])
def test_a_damaged_build_record_is_named(tiny_suite, tmp_path, record):
    shutil.copytree(tiny_suite / "data" / "clip", tmp_path / "clip")
    (tmp_path / "clip" / "build.json").write_text(record)
    with pytest.raises(DamagedFile, match="build.json is not a build record"):
        load_backbone("local-dir:clip", root=tmp_path)
