"""A dataset in folders train/ and test/ alone: every stage and notebook does without val."""

import multiprocessing.util
import shutil
import sys

import matplotlib.pyplot as plt
import papermill
import pytest
import torch
import yaml
from conftest import CLASSES, draw_pictures
from sklearn.linear_model import LogisticRegression
from test_linear_probe import clusters
from test_paper_suite import executed_here
from tiny_project import PROJECT

from promptstudy.__main__ import main
from promptstudy.datasets import draws
from promptstudy.datasets.packs import FeaturePack, validation_or_training
from promptstudy.datasets.splits import load_dataset
from promptstudy.datasets.subsets import few_shot_draw
from promptstudy.files import load_tensors
from promptstudy.methods.linear_probe import DEFAULT_C, fit_linear_probe
from promptstudy.params import load_params
from promptstudy.params.methods import BLOCKS
from promptstudy.results import BASELINES, read_results

SAID = "no validation images: shown on training images"


@pytest.fixture
def suite(own_suite):
    """The folder of a suite whose one dataset has no validation images, with the notebooks."""
    shutil.rmtree(own_suite / "images" / "shapes")
    for split, count in (("train", 4), ("test", 3)):
        draw_pictures(own_suite / "images" / "shapes" / split, CLASSES, count, seed=count)
    params = yaml.safe_load((own_suite / "params.yaml").read_text())
    params |= {"datasets": {"shapes": params["datasets"]["shapes"]}, "captioned": {}}
    params["transfer"]["domain"] = {"lines": {"shift": "sketch"}}
    for method in BLOCKS.keys() & params.keys():
        params[method]["schedule"]["epochs"] = {1: 1, 2: 1}
        if "ablations" in params[method]:
            params[method]["ablations"] = dict(list(params[method]["ablations"].items())[:1])
    (own_suite / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copytree(PROJECT / "notebooks", own_suite / "notebooks")
    return own_suite


@pytest.mark.filterwarnings("ignore")  # of many kinds, about so few images
def test_every_stage_and_notebook_does_without_validation_images(suite, monkeypatch, capsys):
    monkeypatch.setattr(papermill, "execute_notebook", executed_here)
    monkeypatch.setenv("PROMPTSTUDY_PARAMS", "")  # set by every notebook's command; undone after it
    monkeypatch.chdir(suite)
    plt.switch_backend("agg")
    # A notebook's command has temporary files in a folder of its own. Notebooks run in this process
    # here, and in there the sockets of processes that load images would have too long a path.
    multiprocessing.util.get_temp_dir()

    def run(command, *arguments):
        """Run a stage's command and return what it printed."""
        monkeypatch.setattr(sys, "argv", ["promptstudy", "--params", str(suite / "params.yaml"),
                                          command, *arguments])
        main()
        return capsys.readouterr().out

    def show(notebook):
        return run("notebook", f"notebooks/{notebook}.ipynb", "--dataset", "shapes")

    run("check")
    said = {name: show(name) for name in ("02_features", "01_describe")}
    run("shifted")
    run("linear-probe", "--dataset", "shapes")
    params = load_params(suite / "params.yaml")
    for method in params.methods:
        run("train", method, "--dataset", "shapes")
    said |= {name: show(name) for name in ("03_coop", "04_dualpt", "05_dualview", "06_aape")}
    for name, printed in said.items():
        assert printed.count(SAID) == 1, name
        assert "validation images" not in printed.replace(SAID, ""), name
    assert "% of 28 training images" in said["02_features"]
    assert "7 classes, 28 training images" in said["06_aape"]
    assert "% on training images of base classes" in said["05_dualview"]

    pack = FeaturePack.load(params.artefact("features", "shapes"))
    assert (len(pack.train), len(pack.val), len(pack.test)) == (28, 0, 21)
    probes = load_tensors(params.artefact("linear_probe", "shapes"))[0]
    assert {value.item() for name, value in probes.items() if name.endswith("/C")} == {DEFAULT_C}
    run("notebook", "notebooks/07_evaluate.ipynb")
    results = read_results(suite / "reports" / "results.csv")
    assert set(results["method"]) == {*BASELINES, *params.methods}
    assert results["value"].notna().all()


def test_validation_images_are_shown_where_there_are_some(trained, capsys):
    assert validation_or_training(trained.pack) == (trained.pack.val, "validation")
    assert not capsys.readouterr().out


def test_the_probe_without_validation_images_is_scikit_learns_own():
    features, labels = clusters((0, 1, 2), 4, seed=0)
    weight, bias, c = fit_linear_probe(features, labels, features[:0], labels[:0], 3)
    model = LogisticRegression(max_iter=1000).fit(features.numpy(), labels.numpy())
    assert c == model.C == DEFAULT_C
    torch.testing.assert_close(weight, torch.from_numpy(model.coef_).float())
    torch.testing.assert_close(bias, torch.from_numpy(model.intercept_).float())


def test_draws_without_validation_images_are_those_with_some(suite, monkeypatch):
    labels = torch.arange(7).repeat_interleave(4)
    train, val = few_shot_draw(labels, labels[:0], 2, 1)
    assert torch.equal(train, few_shot_draw(labels, labels, 2, 1)[0])
    assert val.dtype == torch.int64 and val.shape == (0,)
    monkeypatch.setattr(draws, "WHOLE", 0)
    params = load_params(suite / "params.yaml")
    dataset, drawn = draws.drawn_only(load_dataset(params, "shapes"), params)
    assert len(dataset.train) < 28 and not dataset.val
    assert all(len(images) == (0 if name.endswith(".val") else 7 * int(name.split(".")[1]))
               for name, images in drawn.items())
