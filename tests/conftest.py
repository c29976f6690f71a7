"""A suite small enough for unit tests: drawn pictures and a random CLIP of two layers."""

import json
import os
import shutil
import signal
from dataclasses import asdict
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from filelock import FileLock
from llm_server import completion
from open_clip.model import set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg
from PIL import Image
from safetensors.torch import save_file
from tiny_project import make_project
from torch.nn import functional as F

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.features import extract
from promptstudy.files import file_sha256, save_tensors
from promptstudy.llm.descriptions import describe, path_of, save
from promptstudy.llm.log import ReplyLog, log_path
from promptstudy.llm.queries import requests
from promptstudy.methods import linear_probe
from promptstudy.params import load_params
from promptstudy.task import Task
from promptstudy.training import train_plan

# Started in the background, Python ignores Ctrl-C, and so would what the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[2] / "shared" / "data"

CLASSES = ["red disc", "green disc", "blue square", "yellow square", "striped", "checked", "plain"]

VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
TIMM = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear",
        "image_size": 64}

PARAMS = """\
suite: tiny
data_root: images
backbone: {name: "local-dir:data/clip"}
shots: [1, 2]
base_to_new_shots: 2
seeds: [1, 2]
datasets:
  shapes: {images: shapes, template: "a drawing of {}."}
  figures: {images: figures/pictures, split: figures/split_zhou_Figures.json}
transfer:
  source: shapes
  shots: 2
  domain: {lines: {shift: sketch}, photos: {images: photos}}
  per_class: 1
captioned:
  pairs: {images: figures/pictures, captions: captions.jsonl}
features: {batch_size: 16, views: 2, local_grid: 2}
llm: {model: nobody, timeout: 2, patience: 2}
coop:
  few_shot: {n_ctx: 4}
  base_to_new: {n_ctx: 4}
  schedule: {epochs: {1: 2, 2: 3}, batch_size: 8}
kgcoop: {base_to_new: {context: {n_ctx: 4}}, schedule: {epochs: {2: 3}, batch_size: 8}}
prograd: {base_to_new: {context: {n_ctx: 4}}, schedule: {epochs: {2: 3}, batch_size: 8}}
dualpt:
  few_shot: {n_prompts: 2, context: {n_ctx: 4}}
  base_to_new: {n_prompts: 2, context: {n_ctx: 4}}
  schedule: {epochs: {1: 2, 2: 3}, batch_size: 8}
  ablations:
    neither: {alpha: 0, beta_infer: 0, lambda_text: 0}
    text only: {alpha: 0, beta_infer: 0}
    local only: {lambda_text: 0}
    shuffled: {descriptions: shuffled}
  ablation_datasets: [shapes]
  ablation_shots: [1]
dualview:
  few_shot: &guided {context: {n_ctx: 4}, ensemble_a: 0, critic_predicts: false}
  base_to_new: {<<: *guided, hard_view: ensemble}
  ensembles: [0.5]
  schedule: {epochs: {1: 2, 2: 3}, batch_size: 8, base_to_new_lr: 0.001}
  ablations:
    CE only: {lambda_mi: 0, lambda_image: 0, mixup: none}
    MI only: {mixup: none}
    aug only: {lambda_mi: 0}
    predicts: {estimator: mine, critic_predicts: true}
  ablation_protocol: base_to_new
  ablation_datasets: [shapes]
  ablation_shots: [2]
aape:
  few_shot: {heads: 4}
  schedule: {epochs: {1: 2, 2: 3}, batch_size: 8, lr: 0.3}
  ablations:
    identity: {agg_values: identity}
    mean: {aggregator: mean}
    no distillation: {lambda_distill: 0}
    lambda 10: {lambda_distill: 10}
    1 prompt: {k: 1}
    shuffled: {reference: shuffled}
    class MLP: {projection: class}
    blind MLP: {projection: blind}
  ablation_protocol: base_to_new
  ablation_datasets: [shapes]
  ablation_shots: [2]
"""

QUERIES = """\
subjects: {shapes: "{} drawing"}
queries: ["What does {} look like?", "Where is {} seen?"]
"""


def pytest_collection_modifyitems(items):
    """The longest files come first, since workers that share the tests take whole files in turn.

    The last two of these need what the first one makes (see `built_project`).
    """
    order = ("test_pipeline", "test_paper_suite", "test_pocket", "test_llm_local", "test_llm_ask",
             "test_text", "test_faults", "test_adding_a_method")
    items.sort(key=lambda item: order.index(item.path.stem) if item.path.stem in order
               else len(order))


@pytest.fixture(scope="session")
def tiny_suite(tmp_path_factory):
    """The folder of a whole suite; read only, except for what runs write into its `artefacts`.

    `shapes` is one folder per class, `figures` comes with a split file, and `pairs` are the same
    pictures with captions; `photos` are more pictures of some classes of shapes. Copy the suite
    (`own_suite`) to change anything.
    """
    root = tmp_path_factory.mktemp("suite")
    make_suite(root)
    return root


@pytest.fixture(scope="session")
def built_project(tiny_suite, tmp_path_factory):
    """The tiny suite as a project that DVC has run once (see `make_project`), which takes minutes.

    Workers that share the tests share it too: the first one that needs it makes it.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    made = folder / "pipeline"
    with FileLock(folder / "pipeline.lock"):
        if not made.exists():
            making = folder / "making"
            making.mkdir()  # fails if another worker has failed here
            make_project(making / "clone", tiny_suite)
            making.rename(made)
    return made


@pytest.fixture(scope="module")
def project(built_project, tmp_path_factory):
    """A copy of it for a file of tests, which may change it, and put back what they changed."""
    copy = tmp_path_factory.mktemp("project") / "copy"
    shutil.copytree(built_project, copy, symlinks=True)
    return copy / "clone"


@pytest.fixture
def own_suite(tiny_suite, tmp_path):
    """A copy of the tiny suite that a test may change."""
    return Path(shutil.copytree(tiny_suite, tmp_path / "suite",
                                ignore=shutil.ignore_patterns("artefacts", "packs",
                                                              "descriptions")))


@pytest.fixture
def suite(own_suite):
    """Params of a suite with ablations, for which `made_up_results` has results."""
    params_file = own_suite / "params.yaml"
    params_file.write_text(params_file.read_text().replace("kgcoop:", """\
  ablations: [{n_ctx: 4, class_specific: true}, {n_ctx: 4, position: middle}]
  ablation_datasets: [shapes]
  ablation_shots: [1, 2]
kgcoop:"""))
    return load_params(params_file)


@pytest.fixture(scope="session")
def tiny_backbone(tiny_suite):
    """The tiny suite's frozen CLIP."""
    params = load_params(tiny_suite / "params.yaml")
    return load_backbone(params.backbone.name, root=params.root)


def make_suite(root):
    """Write the tiny suite into the folder `root`."""
    (root / "params.yaml").write_text(PARAMS)
    (root / "llm").mkdir()
    (root / "llm" / "queries.yaml").write_text(QUERIES)
    save_clip(root / "data" / "clip", VIT)
    draw_pictures(root / "images" / "shapes", CLASSES, count=10)
    pictures = root / "images" / "figures" / "pictures"
    draw_pictures(pictures, CLASSES[:6], count=8, seed=1)
    items = {"train": range(4), "val": range(4, 6), "test": range(6, 8)}
    split = {name: [[f"{c}/{i:03d}.png", label, c.replace(" ", "_")]
                    for label, c in enumerate(CLASSES[:6]) for i in numbers]
             for name, numbers in items.items()}
    (pictures.parent / "split_zhou_Figures.json").write_text(json.dumps(split))
    captions = [{"image": path, "captions": [f"{name} number {number}", f"a drawing of {name}"],
                 "split": split_name} for split_name, entries in split.items()
                for number, (path, _, name) in enumerate(entries)]
    (root / "images" / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)))
    draw_pictures(root / "images" / "photos", ["striped", "blue square", "plain"], count=5, seed=2)
    record_replies(load_params(root / "params.yaml"))


def changed(params, **values):
    """Return `Params` with some blocks replaced (and the same root)."""
    copy = params.model_copy(update=values)
    copy._root = params.root
    return copy


def make_clip(vision, seed=0):
    """Return a random open_clip model with that image tower and two layers of text."""
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config).eval()
    set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=vision["image_size"])))
    return model, config


def record_replies(params):
    """Log the replies of a language model about `shapes`; about `figures` nobody was asked."""
    with ReplyLog(log_path(params, "shapes")) as log:
        for request in requests(params, "shapes", sorted(CLASSES)):
            log.append(request, completion(f"There is a {request.class_name} in it. That is all."))


def save_clip(folder, vision, seed=0):
    """Write a random model as the `local-dir:` folder that `load_backbone` reads."""
    model, config = make_clip(vision, seed)
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = open_clip.get_model_preprocess_cfg(model)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    weights = folder / "open_clip_model.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights)
    (folder / "build.json").write_text(json.dumps({"weights_sha256": file_sha256(weights)}))


def draw_pictures(folder, classes, count, seed=0):
    """Draw `count` pictures of 40 x 48 pixels for each class, into one folder per class."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(picture(name, rng)).save(folder / name / f"{number:03d}.png")


def picture(name, rng):
    """Return one noisy picture [40, 48, 3] (uint8) of a class."""
    colours = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220),
               "yellow": (220, 220, 30)}
    word, shape = ([*name.split(), ""])[:2]
    y, x = np.mgrid[:40, :48]
    centre_y, centre_x, size = rng.integers(14, 26), rng.integers(16, 32), rng.integers(8, 13)
    inside = {
        "disc": (y - centre_y) ** 2 + (x - centre_x) ** 2 < size ** 2,
        "square": (abs(y - centre_y) < size) & (abs(x - centre_x) < size),
    }.get(shape)
    if inside is None:
        inside = {"striped": y // 4 % 2 == 0, "checked": (y // 8 + x // 8) % 2 == 0,
                  "plain": np.zeros((40, 48), bool)}[word]
    canvas = np.where(inside[..., None], colours.get(word, (240, 240, 240)), (90, 90, 90))
    return (canvas + rng.normal(0, 12, (40, 48, 3))).clip(0, 255).astype(np.uint8)


def cosine_error(a, b):
    """Return the largest 1 - cosine between rows of `a` and `b`."""
    return (1 - F.cosine_similarity(a.double(), b.double(), dim=-1)).max().item()


@pytest.fixture(scope="session")
def trained(tiny_suite, tiny_backbone, tmp_path_factory):
    """The Task of a tiny dataset whose methods have all been trained."""
    params = load_params(tiny_suite / "params.yaml")
    params._root = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny_suite / "llm", params.root / "llm")
    pack = extract(load_params(tiny_suite / "params.yaml"), "shapes", tiny_backbone,
                   params.root / "cache")
    described = describe(params, "shapes", pack.class_names)
    save(path_of(params, "shapes"), described)
    task = Task(params, pack, tiny_backbone,
                TextEncoder(tiny_backbone.model, tiny_backbone.tokenizer))
    for method in params.methods:
        train_plan(task, method)
    save_tensors(params.artefact("linear_probe", "shapes"), linear_probe.fit_all(params, pack),
                 linear_probe.provenance(params, pack, tiny_backbone))
    return task
