"""`python -m promptstudy check`: what is said before anything runs, in a second, without torch."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import open_clip
import pytest
from conftest import CLASSES, changed, draw_pictures

from promptstudy.checks import check
from promptstudy.clip import catalogue
from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.lengths import ENSEMBLE_LETTERS, check_lengths
from promptstudy.clip.prompts import PromptLayout
from promptstudy.clip.text import TextEncoder
from promptstudy.clip.text_features import ENSEMBLE
from promptstudy.datasets.root import pack_path
from promptstudy.errors import BackboneError, DatasetError, PromptError
from promptstudy.files import save_tensors
from promptstudy.params import (
    BackboneParams,
    ContextParams,
    DatasetParams,
    TransferParams,
    load_params,
)

PROJECT = Path(__file__).parents[1]
WITHOUT_TORCH = """
import sys
sys.argv = ["promptstudy", "--params", sys.argv[1], "check"]
from promptstudy.__main__ import main
main()
heavy = {"torch", "torchvision", "open_clip", "scipy", "pandas"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def run(path, code=WITHOUT_TORCH, **environment):
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True,
                          env=os.environ | environment, errors="replace")


def without_images(root):
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("data_root: images\n", ""))


def test_no_torch_with_images_or_without(own_suite):
    """With every kind of dataset: folders, a split file, a shift, captions."""
    for change in (lambda root: None, without_images):
        change(own_suite)
        found = run(own_suite / "params.yaml")
        assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    assert (own_suite / "artefacts" / "params.schema.json").is_file()


def test_what_is_left_out_is_said_in_one_line(own_suite):
    (own_suite / "images" / "shapes" / "__MACOSX").mkdir()
    found = run(own_suite / "params.yaml")
    assert found.returncode == 0 and found.stderr == ""
    # the shift of the same images is not said to have it too
    assert found.stdout == (f"note: {own_suite}/images/shapes: left out, as they are not classes: "
                            "'__MACOSX'\n")


@pytest.mark.parametrize("name", ["params.yaml", "params-paper.yaml"])
def test_shipped_suites_in_two_seconds(tmp_path, name):
    shutil.copy(PROJECT / name, tmp_path)
    best = 9
    for _ in range(3):  # the machine may be at work on something else
        start = time.monotonic()
        found = run(tmp_path / name, WITHOUT_TORCH, HF_HUB_CACHE=str(tmp_path))
        best = min(best, time.monotonic() - start)
        assert found.returncode == 0, found.stderr
    assert best < 2
    assert found.stdout.startswith("note: ") and len(found.stdout.splitlines()) == 1


# backbones


def with_backbone(suite, name, pretrained=None):
    params = load_params(suite / "params.yaml")
    return changed(params, data_root=None,
                   backbone=BackboneParams(name=name, pretrained=pretrained))


@pytest.mark.parametrize("name, tag, message", [
    ("ViT-B/16", "openai", "backbone 'ViT-B/16' is not how open_clip spells this model; write "
                           "'ViT-B-16-quickgelu'"),
    ("ViT-B/16", None, "write 'ViT-B-16'$"), ("vit_b_16", "laion2b_s34b_b88k", "write 'ViT-B-16'$"),
    ("ViT-L/14@336px", "openai", "write 'ViT-L-14-336-quickgelu'"),
    ("openai/clip-vit-base-patch32", "openai", "write 'ViT-B-32-quickgelu'"),
    ("rn50", "openai", "write 'RN50-quickgelu'"), ("ResNet50", "cc12m", "write 'RN50-quickgelu'"),
    ("ViT-B-16", "openai", "another activation than 'ViT-B-16' has: use 'ViT-B-16-quickgelu'"),
    ("RN50", "openai", "another activation than 'RN50' has: use 'RN50-quickgelu'"),
    ("RN51", None, "'RN51' is not an open_clip model; the nearest are 'RN50', 'RN50x16', 'RN101'"),
    ("RN50-quickgelu", "opneai", "'opneai' is neither a file nor weights of 'RN50-quickgelu': the "
                                 "nearest is 'openai', out of "),
    ("ViT-B-16-quickgelu", "laion2b", "neither a file nor weights of 'ViT-B-16-quickgelu'"),
    ("RN50", "weights/rn50.pt", "neither a file nor weights of 'RN50': there is no such file; "),
    ("ViT-M-16", "openai", "open_clip has none for it; give a file, or another model")])
def test_backbone_that_open_clip_does_not_know(tiny_suite, name, tag, message):
    params = with_backbone(tiny_suite, name, tag)
    with pytest.raises(BackboneError, match=message):
        check(params)
    if "activation" not in message and tag:  # which is noticed once the weights are there
        with pytest.raises(BackboneError, match=message):
            load_backbone(name, tag)


def test_weights_that_are_not_at_hand_are_a_note(tiny_suite, tmp_path, monkeypatch):
    import huggingface_hub
    assert check(load_params(tiny_suite / "params.yaml")) == []
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    params = with_backbone(tiny_suite, "RN50-quickgelu", "openai")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    absent, = check(params)
    assert "are not on this machine; the first run downloads them. Without network, fetch" in absent
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "and HF_HUB_OFFLINE forbids downloading them; fetch open_clip_mod" in check(params)[0]
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "file")
    assert check(params) == []
    (tmp_path / "weights.pt").write_bytes(b"")
    assert check(with_backbone(tiny_suite, "RN50", str(tmp_path / "weights.pt"))) == []
    assert "'RN50' has random weights; give one of openai, " in check(
        with_backbone(tiny_suite, "RN50"))[0]
    assert "is incomplete, open_clip_config.json, open_clip_model" in check(
        with_backbone(tiny_suite, "local-dir:none"))[0]


def test_the_catalogue_is_open_clips(monkeypatch):
    names, tags = open_clip.list_models(), open_clip.list_pretrained()
    settings = {pair: open_clip.get_pretrained_cfg(*pair) for pair in tags}
    monkeypatch.delitem(sys.modules, "open_clip")
    assert sorted(catalogue.model_names()) == sorted(names)
    table = catalogue._pretrained()
    assert table.__name__ == "_open_clip_tables.pretrained" and table.list_pretrained() == tags
    assert {pair: table.get_pretrained_cfg(*pair) for pair in tags} == settings
    assert catalogue.model_config("RN50-quickgelu", None)["quick_gelu"]


# class names


@pytest.fixture(scope="module")
def encoder(tiny_backbone):
    return TextEncoder(tiny_backbone.model, tiny_backbone.tokenizer)


def test_the_prompt_ensemble_is_not_longer_than_thought():
    assert max(len(template.format("")) for template in ENSEMBLE) < ENSEMBLE_LETTERS


@pytest.mark.parametrize("n_ctx, words", [(4, 70), (16, 58)])
@pytest.mark.parametrize("word", ["cat ", "é ", "a.", "&amp; ", "x-ray "])
def test_what_is_refused_is_what_does_not_fit_the_text_tower(tiny_suite, encoder, n_ctx, words,
                                                             word):
    """A method's prompt is refused exactly if the text tower refuses it."""
    params = load_params(tiny_suite / "params.yaml")
    context = ContextParams(n_ctx=n_ctx)
    params = changed(params, coop=params.coop.model_copy(update={"few_shot": context}),
                     datasets={"x": DatasetParams(images="x", template="{}")},
                     dualview=params.dualview.model_copy(
                         update={"base_to_new": params.dualview.few_shot}))

    def fits(name):
        layout = PromptLayout(encoder, [name], context)
        return 1 + layout.n_shared + layout.words.shape[1] <= encoder.context_length

    names = [(word * count).strip() for count in range(10, words + 3)]
    first = next(index for index, name in enumerate(names) if not fits(name))
    check_lengths(params, "x", names[:first])
    for name in names[first], names[-1]:
        with pytest.raises(PromptError, match="1 class names are too long"):
            check_lengths(params, "x", [name])


def test_long_names_are_listed_with_what_fits(own_suite):
    draw_pictures(own_suite / "images" / "mine", CLASSES[:2], count=4)
    (own_suite / "images" / "mine" / "red disc").rename(own_suite / "images" / "mine" / ("7" * 80))
    params = load_params(own_suite / "params.yaml")
    params = changed(params, datasets={"mine": DatasetParams(images="mine")}, captioned={},
                     transfer=TransferParams(source="mine", shots=2))
    with pytest.raises(PromptError) as caught:
        check(params)
    first, second = str(caught.value).splitlines()
    assert first.startswith("datasets.mine: 1 class names are too long, because the text tower "
                            "reads 77 tokens. The most tokens a name may have: 70 with the "
                            "template, 70 with coop, 70 with prograd, 70 with kgcoop, 70 with "
                            "dualpt, 70 with dualview, 69 with the prompt ensemble. Shorten")
    assert second == f"  '{'7' * 80}': 80 tokens"  # each digit is one


def test_a_model_s_own_context_length_is_taken(tiny_suite):
    params = with_backbone(tiny_suite, "ViT-B-16-SigLIP")  # another tokenizer, not for prompts
    check_lengths(params, "shapes", ["word " * 500])
    params = with_backbone(tiny_suite, "PE-Core-T-16-384")
    assert catalogue.model_config("PE-Core-T-16-384", None)["text_cfg"]["context_length"] == 32
    check_lengths(params, "shapes", ["word " * 21])
    with pytest.raises(PromptError, match="reads 32 tokens.*: 26 with the template, 25 with coop"):
        check_lengths(params, "shapes", ["word " * 26])


def test_names_of_stored_packs_are_checked(own_suite):
    params = changed(load_params(own_suite / "params.yaml"), data_root=None)
    save_tensors(pack_path(params, "shapes"), {}, {"class_names": ["word " * 80]})
    with pytest.raises(PromptError, match="datasets.shapes: 1 class names are too long"):
        check(params)
    pack_path(params, "shapes").write_bytes(b"damaged")  # which features say
    assert check(params) == []


# text


@pytest.mark.parametrize("what", ["class", "image", "path in a split file"])
def test_names_that_the_terminal_s_encoding_cannot_write(own_suite, what):
    folder = own_suite / "images" / "shapes"
    if what == "class":
        (folder / "checked").rename(folder / "café")
    elif what == "image":
        (folder / "plain" / "000.png").rename(folder / "plain" / "é.png")
    else:
        path = own_suite / "images" / "figures" / "split_zhou_Figures.json"
        path.write_text(path.read_text().replace("red disc/000.png", "red disc/\\u00e9.png"))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    found = run(own_suite / "params.yaml", **plain)
    assert found.returncode == 1 and found.stderr.count("\n") == 1
    assert ("cannot be written in this terminal's text encoding, ascii; set the environment "
            "variable PYTHONUTF8=1 and run this again") in found.stderr
    assert run(own_suite / "params.yaml", **plain | {"PYTHONUTF8": "1"}).returncode == 0


def test_a_plain_encoding_is_fine_for_plain_names(own_suite):
    assert run(own_suite / "params.yaml", LC_ALL="C", PYTHONUTF8="0").returncode == 0


def test_a_file_s_name_that_is_no_text_is_refused(own_suite):
    folder = os.fsencode(own_suite / "images" / "shapes" / "plain")
    os.rename(folder + b"/000.png", folder + b"/caf\xe9.png")
    with pytest.raises(DatasetError, match="is not text in UTF-8; rename it"):
        check(load_params(own_suite / "params.yaml"))
