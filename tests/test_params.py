"""`params.yaml`: what is wrong is named, with what would be right, before anything runs."""

import time
from pathlib import Path

import pytest
import yaml
from conftest import PARAMS

from promptstudy.errors import ParamsError
from promptstudy.params import load_params

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def faulty(tmp_path):
    """A function that writes a params.yaml with changes and returns the error of loading it."""
    def load(*changes):
        values = yaml.safe_load(PARAMS)
        for keys, value in changes:
            *blocks, last = keys.split(".")
            block = values
            for name in blocks:
                block = block[name]
            if value is None:
                del block[last]
            else:
                block[last] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        start = time.monotonic()
        with pytest.raises(ParamsError) as caught:
            load_params(tmp_path / "params.yaml")
        assert time.monotonic() - start < 5
        return str(caught.value)

    return load


@pytest.mark.parametrize("key, value, message", [
    ("seed", [1], "seed: unknown key; did you mean 'seeds'?"),
    ("features.veiws", 2, "features.veiws: unknown key; did you mean 'views'?"),
    ("datasets.shapes.tempalte", "{}", "datasets.shapes.tempalte: unknown key; did you mean "
                                       "'template'?"),
    ("coop.schedule.momentun", 0.9, "coop.schedule.momentun: unknown key; did you mean 'momentum'"),
    ("dualpt.few_shot.lambda_txt", 1, "dualpt.few_shot.lambda_txt: unknown key; did you mean "
                                      "'lambda_text'?"),
    ("dualpt.ablations.neither.alpa", 1, "dualpt.ablations.neither.alpa: unknown key; did you "
                                         "mean 'alpha'?"),
    ("dualview.ablations.CE only.lambda_m", 0, "dualview.ablations.CE only.lambda_m: unknown key; "
                                               "did you mean 'lambda_mi'?"),
    ("kgcoop.few_shot", {"wieght": 1}, "kgcoop.few_shot.wieght: unknown key; did you mean "
                                       "'weight'?"),
    ("coop.ablations", [{"nctx": 4}], "coop.ablations.0.nctx: unknown key; did you mean 'n_ctx'?"),
    ("aape.few_shot.lambda", 1, "aape.few_shot.lambda: unknown key; did you mean "
                                "'lambda_distill'?"),
    ("captioned.pairs.caption", "x", "captioned.pairs.caption: unknown key; did you mean "
                                     "'captions'?"),
    ("transfer.sources", "shapes", "transfer.sources: unknown key; did you mean 'source'?"),
    ("transfer.domain.lines.shfit", 1, "transfer.domain.lines.shfit: unknown key; did you mean "
                                       "'shift'?"),
    ("llm.n_reply", 2, "llm.n_reply: unknown key; did you mean 'n_replies'?"),
    ("llm.price", {"prompts": 1}, "llm.price.prompts: unknown key; did you mean 'prompt'?"),
    ("backbone.weights", "x", "backbone.weights: unknown key; did you mean 'pretrained'?"),
])
def test_unknown_key_is_named_with_the_nearest(faulty, key, value, message):
    error = faulty((key, value))
    assert error.startswith("/") and "params.yaml cannot be used:" in error
    assert message in error


@pytest.mark.parametrize("key, value, message", [
    ("features.batch_size", 0, "features.batch_size: input should be greater than or equal to 1 "
                               "(found 0)"),
    ("features.views", -1, "features.views: input should be greater than or equal to 0 (found -1)"),
    ("features.local_grid", "three", "features.local_grid: input should be a valid integer"),
    ("coop.schedule.lr", -0.1, "coop.schedule.lr: input should be greater than 0 (found -0.1)"),
    ("coop.schedule.momentum", 1.5, "coop.schedule.momentum: input should be less than 1"),
    ("coop.few_shot.position", "begin", "coop.few_shot.position: input should be 'end', 'middle' "
                                        "or 'front' (found 'begin')"),
    ("shots", [0], "shots.0: input should be greater than or equal to 1 (found 0)"),
    ("datasets", {}, "datasets: dictionary should have at least 1 item"),
    ("llm.concurrency", 0, "llm.concurrency: input should be greater than or equal to 1 (found 0)"),
    ("llm.price", {"reply": -1}, "llm.price.reply: input should be greater than or equal to 0"),
    ("llm.corpora", {"shape": "x.json"}, "llm.corpora: 'shape' is not a dataset; did you mean "
                                         "'shapes'?"),
    ("backbone", None, "backbone: field required"),
    ("datasets.shapes", {}, "datasets.shapes: needs exactly one: images (with or without a split), "
                            "or a layout"),
    ("datasets.shapes.layout", "dtd", "datasets.shapes: needs exactly one: images (with or "),
    ("datasets.dtd", {"layout": "dtd", "split": "x.json"}, "datasets.dtd: needs exactly one"),
    ("datasets.dtd", {"layout": "dttd"}, "datasets.dtd.layout: input should be 'imagenet', 'cal"),
    ("transfer.domain", {"x": {"layout": "dtd", "images": "x"}}, "transfer.domain.x: needs "),
    ("coop.schedule.epochs_on", {"shape": 5}, "coop.schedule.epochs_on: 'shape' is not a dataset; "
                                              "did you mean 'shapes'?"),
    ("plot", {"schedule": {"epochs": {1: 1, 2: 1}}, "global_on": ["shape"]},
     "plot.global_on: 'shape' is not a dataset; did you mean 'shapes'?"),
    ("seeds", [1, 1], "seeds: each may occur only once (found [1, 1])"),
    ("datasets.shapes.template", "a photo", "datasets.shapes.template: needs {} once (found "
                                            "'a photo')"),
    ("dualpt.few_shot.text_align", "kld", "dualpt.few_shot.text_align: input should be 'ot', "
                                          "'mean', 'infonce' or 'kl' (found 'kld')"),
    ("dualpt.few_shot.eps_text", 0, "dualpt.few_shot.eps_text: input should be greater than 0"),
    ("dualpt.ablations.neither", 3, "dualpt.ablations.neither: input should be a valid dictionary"),
    ("dualpt.ablation_datasets", ["shape"], "dualpt.ablation_datasets: 'shape' is not a dataset; "
                                            "did you mean 'shapes'?"),
    ("dualview.base_to_new.mixup", "mix", "dualview.base_to_new.mixup: input should be 'none', "
                                          "'within'"),
    ("dualview.ensembles", [1.5], "dualview.ensembles.0: input should be less than or equal to 1"),
    ("dualview.few_shot.tau_mi", 0, "dualview.few_shot.tau_mi: input should be greater than 0"),
    ("kgcoop.few_shot", {}, "kgcoop.schedule.epochs: no number of epochs for 1 shots"),
    ("dualpt.ablation_shots", [3], "dualpt.schedule.epochs: no number of epochs for 3 shots"),
    ("aape.few_shot.aggregator", "max", "aape.few_shot.aggregator: input should be 'attention', "
                                        "'mean', 'random' or 'mlp' (found 'max')"),
    ("aape.ablation_shots", [1], "aape.ablation_shots: base-to-new is trained only with "
                              "base_to_new_shots = 2 (found [1])"),
    ("captioned", {"shapes": {"images": "a", "captions": "b"}}, "captioned.shapes: there is a "
                                                                "dataset with that name"),
    ("aape.schedule.epochs", {2: 1}, "aape.schedule.epochs: no number of epochs for 1 shot, which "
                                     "captioned needs"),
    ("transfer", None, "transfer: field required"),
    ("transfer.source", "shape", "transfer.source: 'shape' is not a dataset; did you mean "
                                 "'shapes'?"),
    ("transfer.shots", 4, "transfer.shots: must be one of shots, for which linear probes are "
                          "trained (found 4)"),
    ("transfer.shots", 4, "prograd.schedule.epochs: no number of epochs for 4 shots"),
    ("transfer.per_class", 0, "transfer.per_class: input should be greater than or equal to 1"),
    ("transfer.domain", {"lines": {"shift": "drawing"}}, "transfer.domain.lines.shift: input "
                                                         "should be 'sketch', 'rendition',"),
    ("transfer.domain.lines", {}, "transfer.domain.lines: needs exactly one: images (with or "
                                  "without a split), or a layout, or a shift"),
    ("transfer.domain.lines", {"shift": "sketch", "images": "x"}, "transfer.domain.lines: needs"),
    ("transfer.domain.lines", {"shift": "sketch", "split": "x"}, "transfer.domain.lines: needs"),
    ("transfer.domain", {"figures": {"shift": "sketch"}}, "transfer.domain.figures: other "
                                                          "test images have that name; rename"),
    ("transfer.domain", {"original": {"images": "x"}}, "transfer.domain.original: other test"),
    ("shots", [1, 5], "coop.schedule.epochs: no number of epochs for 5 shots"),
])
def test_wrong_value_is_named(faulty, key, value, message):
    assert message in faulty((key, value))


def test_every_fault_is_listed(faulty):
    error = faulty(("features.view", 2), ("coop.schedule.lr", 0), ("suit", "x"))
    assert len(error.splitlines()) == 4
    assert "features.view: " in error and "coop.schedule.lr: " in error and "suit: " in error


def test_file_that_is_missing_or_not_yaml(tmp_path):
    with pytest.raises(ParamsError, match="params.yaml does not exist"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("suite: [")
    with pytest.raises(ParamsError, match="params.yaml is not valid YAML"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("content", ["", "- a list", "text"])
def test_file_without_keys(tmp_path, content):
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(ParamsError, match="params.yaml cannot be used"):
        load_params(tmp_path / "params.yaml")


def test_file_is_found_by_variable_or_upwards(tiny_suite, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTSTUDY_PARAMS", str(tiny_suite / "params.yaml"))
    assert load_params().root == tiny_suite.resolve()
    monkeypatch.delenv("PROMPTSTUDY_PARAMS")
    monkeypatch.chdir(tiny_suite / "images" / "shapes")
    assert load_params().suite == "tiny"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="no params.yaml in .* run this inside the project"):
        load_params()


def test_dataset_name(tiny_suite):
    params = load_params(tiny_suite / "params.yaml")
    assert (params.dataset(), params.dataset("figures")) == ("shapes", "figures")
    with pytest.raises(ParamsError, match="dataset 'figure' is not in .* did you mean 'figures'"):
        params.dataset("figure")


def test_dataset_for_tests_alone():
    params = load_params(PROJECT / "params-paper.yaml")
    assert params.any_dataset("imagenet_a") == "imagenet_a"
    assert params.key_of("imagenet_a") == "transfer.domain.imagenet_a"
    assert params.key_of("imagenet") == "datasets.imagenet"
    with pytest.raises(ParamsError, match="dataset 'imagenet_a' is not in params.yaml"):
        params.dataset("imagenet_a")


def test_settings_cannot_be_changed(tiny_suite):
    params = load_params(tiny_suite / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.features.views = 5
