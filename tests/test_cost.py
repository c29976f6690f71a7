"""What `plan` counts is what training does, and what it prints can be read."""

import re
import shutil
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from conftest import changed
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode

from promptstudy import __main__
from promptstudy.budget import cost_table, stages_of, takes_long, total, work_of
from promptstudy.clip.text import TextEncoder
from promptstudy.cost import Size, Speed, Tower, Work, encoding, image_gflop, text_gflop, training
from promptstudy.errors import DatasetError
from promptstudy.methods.coop import CoOp
from promptstudy.params import load_params
from promptstudy.params.method import ContextParams
from promptstudy.sizes import TOKENS, size_of

PROJECT = Path(__file__).parents[1]


def test_operations_of_a_step_are_those_that_torch_counts():
    torch.manual_seed(0)
    tower = Tower(128, 12, 64)
    model = open_clip.CLIP(tower.dim, {"image_size": 32, "patch_size": 16, "width": 32,
                                       "layers": 1, "head_width": 16},
                           {"width": tower.width, "heads": 4, "layers": tower.blocks})
    encoder = TextEncoder(model.eval().requires_grad_(False), open_clip.get_tokenizer("RN50"))
    method = CoOp(encoder, [f"class {n}" for n in range(40)], ContextParams(n_ctx=4), 1.0,
                  seeds=(1, 2))
    with FlopCounterMode(display=False) as counter:
        method.class_features().sum().backward()
    tokens = (method.layout.end + 1).sum().item()
    counted = text_gflop(Size(40, 0, 0, tokens), 2, tower)
    assert counted == pytest.approx(counter.get_total_flops() / 1e9, rel=0.1)


@pytest.mark.parametrize("method", ["coop", "kgcoop", "prograd", "dualpt", "dualview", "aape"])
def test_steps_and_runs_are_those_that_are_trained(trained, method):
    pack, params = trained.pack, trained.params
    size = Size(len(pack.class_names), len(pack.train), len(pack.val) + len(pack.test), 30)
    work = training(params, method, "shapes", size, Tower(32, 2, 16))
    with safe_open(params.artefact(method, "shapes"), "pt") as file:
        losses = [file.get_slice(key).get_shape() for key in file.keys() if key.endswith("/losses")]
    assert work.n_steps == sum(steps for steps, _ in losses)
    assert work.runs == sum(runs for _, runs in losses)
    assert work.pflop > 0 and work.held > 0


def test_sizes_are_those_of_the_images(tiny_suite, trained):
    params = load_params(tiny_suite / "params.yaml")
    size, pack = size_of(params, "shapes"), trained.pack
    assert size[:3] == (7, len(pack.train), len(pack.val) + len(pack.test))
    tokenise = open_clip.get_tokenizer("RN50").encode
    assert size.tokens == sum(len(tokenise(name)) + 2 for name in pack.class_names)
    assert encoding(params, size).images == 3 * size.train + size.others  # two views each
    pairs = size_of(params, "pairs")  # every image of it is a class
    assert pairs.classes == pairs.train == 24


def test_sizes_are_those_of_the_stored_pack(trained, tmp_path):
    params = changed(trained.params, data_root=None)
    params._root = tmp_path
    with pytest.raises(DatasetError, match="the size of dataset 'shapes' is not known"):
        size_of(params, "shapes")
    trained.pack.save(tmp_path / "data" / "packs" / "shapes.safetensors")
    assert size_of(params, "shapes")[:3] == (
        7, len(trained.pack.train), len(trained.pack.val) + len(trained.pack.test))


def test_sizes_of_the_papers_datasets_need_no_images():
    params = load_params(PROJECT / "params-paper.yaml")
    params = changed(params, data_root=None)
    for name in params.every_dataset:
        size = size_of(params, name)
        assert size.classes and size.others
        assert (name in TOKENS) == (name in params.datasets)
    imagenet = size_of(params, "imagenet")
    assert imagenet.drawn(params) == 31 * 3 * 1000 < imagenet.train
    assert size_of(params, "dtd").drawn(params) == 2820


def test_operations_of_an_image_grow_with_its_size(tiny_suite):
    assert 0 < image_gflop("local-dir:data/clip", tiny_suite) < image_gflop("ViT-B-32") < 10


def test_time_is_that_of_the_longest_way():
    work = Work(runs=6, steps=((10, 2.0), (10, 0.001)), images=100, held=1e9)
    assert work.seconds(Speed(1.0, 50, 0.1)) == pytest.approx(20 + 1 + 2)
    assert work.seconds(Speed(1.0, 50, 0.1, side_by_side=4)) == pytest.approx(21 / 2 + 2)
    assert (work + work).n_steps == 40 and work.memory(Speed(1, 1, 1, 2)) > 2e9


def test_the_table_says_what_dominates(tiny_suite, tmp_path):
    shutil.copytree(tiny_suite, tmp_path / "suite")
    shutil.copy(PROJECT / "dvc.yaml", tmp_path / "suite")
    params = load_params(tmp_path / "suite" / "params.yaml")
    stages = stages_of(params)
    assert {"coop@shapes", "coop@figures", "captions@pairs", "evaluate"} <= set(stages)
    assert not any("pocket" in stage for stage in stages)
    found = cost_table(work_of(params, stages), Speed(1e-3, 1.0, 0.01))
    assert found["stages"].sum() == len(stages)
    assert found.loc["shifted", "images"] and not found.loc["report", "images"]
    assert re.search(r"about .*\(.* to .*\), at most \d\.\d GB of memory; most of it is \w+ \(\d+%",
                     total(found))
    assert takes_long(params, ["report", "coop@shapes"]) and not takes_long(params, ["coop_page@x"])


def test_the_command_measures_this_machine(tiny_suite, tmp_path, monkeypatch, capsys):
    shutil.copytree(tiny_suite, tmp_path / "suite")
    shutil.copy(PROJECT / "dvc.yaml", tmp_path / "suite")
    monkeypatch.setattr("promptstudy.machine.PATIENCE", 0.01)
    monkeypatch.chdir(tmp_path / "suite")
    monkeypatch.setattr(sys, "argv", ["promptstudy", "plan", "coop@shapes", "coop@figures"])
    __main__.main()
    said = capsys.readouterr().out
    assert re.search(r"coop +2 +0 +12 +", said) and "2 stages, about" in said
    monkeypatch.setattr(sys, "argv", ["promptstudy", "plan", "coop@nothing"])
    with pytest.raises(SystemExit, match="no stage 'coop@nothing'; it has check, features@shapes"):
        __main__.main()
