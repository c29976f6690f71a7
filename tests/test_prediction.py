"""What is predicted of image files at a user's desk is what evaluation computes on them."""

import csv
import io
import json
import shutil
import sys

import pytest
import torch
from conftest import cosine_error
from torch.nn import functional as F

from promptstudy import __main__
from promptstudy.errors import DatasetError, PredictionError
from promptstudy.evaluation import Evaluation
from promptstudy.image_files import encode_files, find_images
from promptstudy.methods import registry
from promptstudy.params import load_params
from promptstudy.plans import plan
from promptstudy.prediction import HAND_CRAFTED, class_weights, load_predictor, scores


@pytest.fixture(scope="module")
def params(trained, tiny_suite):
    """Params of a suite with images, backbone and what its methods learned of `shapes`."""
    root = trained.params.root
    shutil.copytree(tiny_suite / "data" / "clip", root / "data" / "clip", dirs_exist_ok=True)
    shutil.copy(tiny_suite / "params.yaml", root)
    if not (root / "images").exists():
        (root / "images").symlink_to(tiny_suite / "images")
    params = load_params(root / "params.yaml")
    trained.pack.save(params.artefact("features", "shapes"))
    return params


@pytest.fixture(scope="module")
def evaluation(params):
    return Evaluation.load(params, "shapes")


@pytest.fixture(scope="module")
def files(params, evaluation):
    """The files of the test images."""
    return [params.root / "images" / "shapes" / path for path in evaluation.pack.test.paths]


def classification(params, method):
    return [setting for setting in plan(params, method, "shapes")
            if setting.protocol != "retrieval"]


def test_files_have_the_features_of_the_pack(params, evaluation, files):
    read, pack = encode_files(files, evaluation.backbone, params.features), evaluation.pack.test
    assert cosine_error(read.features, pack.features) < 1e-5
    assert cosine_error(read.local, pack.local) < 1e-4
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0))
    again = encode_files([files[i] for i in order], evaluation.backbone, params.features)
    assert cosine_error(again.features, pack.features[order]) < 1e-5


@pytest.mark.parametrize("method", ["coop", "kgcoop", "prograd", "dualpt", "dualview", "aape"])
def test_predictions_are_those_that_evaluation_scores(params, evaluation, files, method):
    """In every setting, of every seed, for base and new classes too, from the image files."""
    images = encode_files(files, evaluation.backbone, params.features)
    names = evaluation.class_names
    for setting in classification(params, method):
        subsets = ("base", "new") if setting.protocol == "base_to_new" else ("all",)
        for subset in subsets:
            if subset == "base" and getattr(setting.variant, "augmentation", "") == "proto_ctx":
                continue  # the base classes' prompts are made of their images, others' are not
            model = evaluation.trained(method, setting, subset)
            expected = registry.predictions(params, method, setting, model,
                                         evaluation.inputs(model, subset))[setting.variant.label]
            of = evaluation.halves.get(subset, slice(None))
            for seed, of_run in zip(params.seeds, expected, strict=True):
                chosen = load_predictor(
                    params, "shapes", method, setting=setting.key, seed=seed,
                    class_names=None if subset == "all" else evaluation.names_of(subset))
                shares = chosen.probabilities(images.features[of], images.local[of])
                assert chosen.class_names == evaluation.names_of(subset)
                assert torch.allclose(shares.sum(dim=1), torch.ones(len(shares)))
                assert torch.equal(shares.argmax(dim=1), of_run), (setting.key, subset, seed)
    assert len(names) == 7


@pytest.mark.parametrize("method", HAND_CRAFTED)
def test_hand_crafted_prompts_predict_as_evaluation_does(params, evaluation, files, method):
    images = encode_files(files, evaluation.backbone, params.features)
    (_, _, expected), = evaluation.hand_crafted_predictions(methods=(method,))
    chosen = load_predictor(params, "shapes", method)
    shares = chosen.probabilities(images.features, images.local)
    assert torch.equal(shares.argmax(dim=1), expected)
    with pytest.raises(PredictionError, match="it has no setting"):
        load_predictor(params, "shapes", method, setting="few_shot/M4/1")


def test_scores_of_a_class_matrix_are_scaled_cosines(params, evaluation):
    chosen = load_predictor(params, "shapes", "coop")
    features = F.normalize(torch.randn(5, evaluation.encoder.dim), dim=-1)
    with torch.no_grad():
        weights = class_weights(chosen.model)
        found = scores(chosen.model, features, None)
    assert torch.allclose(weights.norm(dim=-1), torch.ones(2, 7))
    expected = chosen.backbone.logit_scale * torch.einsum("nd,rcd->rnc", features, weights)
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_default_is_the_main_variant_with_the_most_shots(params):
    assert load_predictor(params, "shapes", "coop").setting.key == "few_shot/M4/2"
    assert load_predictor(params, "shapes", "kgcoop").setting.protocol == "base_to_new"
    others = load_predictor(params, "shapes", "dualview", class_names=["house", "tree"])
    assert others.setting.protocol == "base_to_new" and others.class_weights().shape == (2, 16)


@pytest.mark.parametrize("method, asked, message", [
    ("coop", {"setting": "few_shot/M5/2"}, "no setting 'few_shot/M5/2' on shapes; it has few_shot"),
    ("coop", {"seed": 7}, "nothing was trained with seed 7; the seeds are 1, 2"),
    ("plot", {}, "params.yaml has no block 'plot'"),
    ("dualvue", {}, "there is no method 'dualvue'; did you mean 'dualview'")])
def test_what_was_not_trained_is_said(params, method, asked, message):
    with pytest.raises(ValueError, match=message):
        load_predictor(params, "shapes", method, **asked)


def test_folders_are_searched_and_files_that_are_no_images_are_named(tmp_path, files, evaluation,
                                                                      params):
    (tmp_path / "a" / ".hidden").mkdir(parents=True)
    for name in ("a/2.PNG", "a/1.png", "a/.hidden/3.png", "b.png"):
        (tmp_path / name).write_bytes(files[0].read_bytes())
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    found = find_images([tmp_path / "b.png", tmp_path / "a"])
    assert [path.name for path in found] == ["b.png", "1.png", "2.PNG"]
    with pytest.raises(DatasetError, match="absent.png does not exist"):
        find_images([tmp_path / "absent.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty holds no images"):
        find_images([tmp_path / "empty"])
    with pytest.raises(DatasetError, match="1 of 2 images cannot be used(.|\n)*notes.txt: the fil"):
        encode_files([tmp_path / "b.png", tmp_path / "a" / "notes.txt"], evaluation.backbone,
                     params.features)


def called(monkeypatch, capsys, params, *arguments):
    """Return what a command prints."""
    monkeypatch.setattr(sys, "argv", ["promptstudy", "--params", str(params.root / "params.yaml"),
                                      *map(str, arguments)])
    __main__.main()
    return capsys.readouterr().out


def test_the_command_prints_the_five_most_probable_classes(monkeypatch, capsys, params, files,
                                                           evaluation):
    common = "predict", "--dataset", "shapes", "--method", "dualpt"
    out = called(monkeypatch, capsys, params, *common, *files[:2])
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == list("12345") * 2
    assert {row["image"] for row in rows} == set(map(str, files[:2]))
    values = [float(row["probability"]) for row in rows[:5]]
    assert values == sorted(values, reverse=True) and 0.5 < sum(values) <= 1
    assert {row["class"] for row in rows} <= set(evaluation.class_names)
    out = called(monkeypatch, capsys, params, *common, "--format", "json", "--classes", "disc",
                 "box", "--", files[0].parent)
    found = json.loads(out)
    assert len(found) == 10
    for image in found:
        assert {entry["class"] for entry in image["classes"]} == {"disc", "box"}
        assert sum(entry["probability"] for entry in image["classes"]) == pytest.approx(1, abs=1e-5)


def test_classes_that_a_method_cannot_take_are_refused(params):
    with pytest.raises(PredictionError, match="few_shot/M4/9"):
        load_predictor(params, "shapes", "aape", setting="few_shot/M4/9", class_names=["a"])
