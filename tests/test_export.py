"""Exported files do outside this project what the method does inside it, and come back."""

import copy
import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import changed
from test_prediction import called, params  # noqa: F401 -- a fixture

from promptstudy import export
from promptstudy.errors import DamagedFile, PredictionError
from promptstudy.evaluation import Evaluation
from promptstudy.files import load_tensors
from promptstudy.image_files import encode_files
from promptstudy.params import Setting
from promptstudy.prediction import load_predictor
from promptstudy.results import results_table

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def evaluation(params):  # noqa: F811
    return Evaluation.load(params, "shapes")


def snippet():
    """The README's lines for plain open_clip."""
    return next(block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
                if "safe_open" in block)


@pytest.mark.parametrize("method", ["coop", "kgcoop", "prograd", "dualview", "zero_shot",
                                    "ensemble"])
def test_the_readme_s_five_lines_of_open_clip_predict_the_same(
        params, monkeypatch, capsys, tmp_path, method):  # noqa: F811
    assert len(snippet().strip().splitlines()) == 7  # two of them import
    image = params.root / "images" / "shapes" / "striped" / "001.png"
    out = called(monkeypatch, capsys, params, "export", "--dataset", "shapes", "--method", method,
                 tmp_path / "coop.safetensors")
    assert "class weights [7, 16]" in out
    shutil.copy(image, tmp_path / "photo.jpg")
    shutil.copytree(params.root / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(snippet(), found)
    own = load_predictor(params, "shapes", method)
    read = encode_files([image], own.backbone, params.features)
    expected = own.probabilities(read.features, read.local)
    assert torch.allclose(found["probabilities"], expected, atol=2e-3)
    assert found["about"]["class_names"] == own.class_names


@pytest.fixture(scope="module")
def results(evaluation):
    """The rows of CoOp on `shapes`, as evaluation writes them."""
    evaluation.learned("coop")
    return results_table(evaluation.rows).query("method == 'coop' and protocol == 'few_shot'")


def test_the_exported_weights_give_evaluation_s_accuracy(
        params, evaluation, results, monkeypatch, capsys, tmp_path):  # noqa: F811
    for seed in params.seeds:
        file = tmp_path / f"{seed}.safetensors"
        called(monkeypatch, capsys, params, "export", "--dataset", "shapes", "--method", "coop",
               "--setting", "few_shot/M4/1", "--seed", seed, file)
        weights, about = load_tensors(file)
        predicted = (evaluation.features @ weights["weights"].T).argmax(dim=1)
        row = results.query(f"variant == 'M4' and shots == 1 and seed == {seed}")
        accuracy = 100 * (predicted == evaluation.labels).double().mean()
        assert row["value"].item() == pytest.approx(accuracy.item(), abs=1e-3)
        assert about["made_from"]["seed"] == seed and about["made_from"]["file"]
        assert {"model", "pretrained", "logit_scale", "text_fingerprint"} <= about.keys()
        assert str(params.root) not in json.dumps(about)


@pytest.mark.parametrize("method, why", [("dualpt", "transports local image features"),
                                         ("aape", "a prompt made from it")])
def test_what_is_no_class_matrix_is_refused_in_one_line(params, method, why):  # noqa: F811
    with pytest.raises(PredictionError, match=why) as refused:
        load_predictor(params, "shapes", method).class_weights()
    assert "\n" not in str(refused.value) and f"predict --method {method}" in str(refused.value)


def test_dualpt_without_local_scores_is_a_class_matrix(params, evaluation):  # noqa: F811
    key = next(f"few_shot/{variant.label}/1" for variant in params.dualpt.ablation_variants
               if not variant.beta_infer)
    chosen = load_predictor(params, "shapes", "dualpt", setting=key)
    model = evaluation.trained("dualpt", chosen.setting)
    expected = model.predict(*evaluation.inputs(model))[chosen.run]
    assert torch.equal((evaluation.features @ chosen.class_weights().T).argmax(dim=1), expected)


def test_class_specific_contexts_take_no_other_classes(params, monkeypatch):  # noqa: F811
    own = params.coop.few_shot.model_copy(update={"class_specific": True})
    setting = Setting("few_shot", own, 1)
    monkeypatch.setattr("promptstudy.prediction.plan", lambda *_: [setting])
    with pytest.raises(PredictionError, match="takes no other classes"):
        load_predictor(changed(params), "shapes", "coop", setting=setting.key,
                       class_names=list("abcdefg"))


# CoOp's own checkpoints


def test_coop_s_checkpoint_there_and_back(
        params, results, monkeypatch, capsys, tmp_path):  # noqa: F811
    checkpoint, back = tmp_path / "model.pth.tar-50", tmp_path / "back.safetensors"
    called(monkeypatch, capsys, params, "export", "--dataset", "shapes", "--method", "coop",
           "--format", "coop", checkpoint)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    chosen = load_predictor(params, "shapes", "coop")
    assert list(state) == ["ctx"] and torch.equal(state["ctx"], chosen.model.contexts[0])
    said = called(monkeypatch, capsys, params, "import", checkpoint, "--dataset", "shapes",
                  "--out", back)
    weights, about = load_tensors(back)
    assert torch.allclose(weights["weights"], chosen.class_weights(), atol=1e-6)
    assert about["made_from"]["file"] == "model.pth.tar-50"
    row = results.query("variant == 'M4' and shots == 2 and seed == 1")
    assert f"all {row['value'].item():.1f}, base " in said


class Custom:
    """Something of its own code in a checkpoint, as CoOp's has its learning-rate schedule."""

    def __reduce__(self):
        return open, (str(Path(self.path)), "w")


def test_a_checkpoint_as_coop_s_code_writes_it(params, evaluation, tmp_path):  # noqa: F811
    """Half precision, token buffers, an optimiser and a schedule with an object of its own."""
    path, context = tmp_path / "model.pth.tar-200", torch.randn(4, evaluation.encoder.width)
    parameter = torch.nn.Parameter(context.clone())
    optimiser = torch.optim.SGD([parameter], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 200)
    torch.save({"state_dict": {"ctx": context.half(), "token_prefix": torch.zeros(7, 1, 8),
                               "token_suffix": torch.zeros(7, 72, 8)},
                "epoch": 200, "optimizer": optimiser.state_dict(),
                "scheduler": {"successor": copy.copy(schedule)}, "val_result": None}, path)
    assert torch.equal(export.load_coop(path), context.half().float())


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    evil = Custom()
    evil.path = tmp_path / "written"
    torch.save({"state_dict": {"ctx": torch.ones(4, 8)}, "evil": evil}, tmp_path / "checkpoint")
    assert export.load_coop(tmp_path / "checkpoint").shape == (4, 8)
    assert not evil.path.exists()


@pytest.mark.parametrize("content, error, message", [
    ({"state_dict": {"weight": torch.ones(2)}}, DamagedFile, "no tensor `ctx`"),
    ([1, 2], DamagedFile, "no tensor `ctx`"),
    ({"state_dict": {"ctx": torch.ones(4, 8), "meta_net.linear1.weight": torch.ones(2)}},
     PredictionError, "is CoCoOp's")])
def test_other_checkpoints_are_refused(tmp_path, content, error, message):
    torch.save(content, tmp_path / "checkpoint")
    with pytest.raises(error, match=message):
        export.load_coop(tmp_path / "checkpoint")


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    with pytest.raises(DamagedFile, match="does not exist"):
        export.load_coop(tmp_path / "absent")
    for content in (b"", b"text", pickle.dumps({"a": 1})):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DamagedFile, match="no checkpoint of CoOp's code"):
            export.load_coop(tmp_path / "file")


def test_contexts_of_another_text_tower_are_refused(evaluation):
    with pytest.raises(PredictionError, match="size 512, those of the text tower 32"):
        export.around(torch.ones(4, 512), evaluation.encoder, ["a", "b"], 1.0)
    with pytest.raises(ValueError, match="contexts of 3 classes cannot be used for 2 others"):
        export.around(torch.ones(3, 4, 32), evaluation.encoder, ["a", "b"], 1.0)
