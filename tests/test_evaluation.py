"""What is scored, against what, and that nothing else can be."""

import shutil
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from conftest import changed

from promptstudy.changes import Changes
from promptstudy.datasets.packs import own_labels
from promptstudy.errors import DamagedFile
from promptstudy.evaluation import Evaluation
from promptstudy.features import extract
from promptstudy.files import load_tensors, save_tensors
from promptstudy.methods import dualview
from promptstudy.methods.reference_prompts import references
from promptstudy.metrics import quarters, top1, typicality
from promptstudy.params import Setting, load_params
from promptstudy.plans import plan, schedule_of, training_draws
from promptstudy.task import Task
from promptstudy.training import learned_by, provenance, train, train_plan


def evaluate(task):
    """Return an Evaluation of a Task."""
    return Evaluation(task.params, task.pack, task.backbone, task.encoder)


def test_top1_counts_images_in_percent_for_every_run():
    predicted = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0]])
    assert top1(predicted, torch.tensor([0, 1, 1, 0])).tolist() == [75, 50]


def test_changes_are_found():
    labels = torch.tensor([0, 0, 1, 1])
    before = torch.tensor([[.9, .1], [.6, .4], [.8, .2], [.1, .9]])
    after = torch.tensor([[.9, .1], [.3, .7], [.2, .8], [.1, .9]])
    comparison = Changes(["cat", "dog"], list("abcd"), labels, before, after)
    assert comparison.per_class_change().to_dict() == {"cat": -50, "dog": 50}
    gained, spoilt = comparison.examples(count=1)
    assert (gained["path"], gained["truth"]) == ("c", "dog")
    assert (spoilt["path"], spoilt["truth"]) == ("b", "cat")
    assert gained["after"][0][0] == "dog"
    assert gained["after"][0][1] == pytest.approx(80)


def test_typicality_is_the_cosine_to_the_mean_of_the_training_images():
    train = SimpleNamespace(features=torch.tensor([[2.0, 0], [0, 3], [5, 5], [1, 0]]),
                            labels=torch.tensor([0, 0, 1, 1]))
    features, labels = torch.tensor([[4.0, 4], [1, 0], [0, 2]]), torch.tensor([0, 0, 1])
    half = 0.5 ** 0.5
    mean = torch.tensor([1 + half, half])  # of class 1, of normalised images
    expected = [1, half, (mean[1] / mean.norm()).item()]
    assert typicality(features, labels, train).tolist() == pytest.approx(expected)


def test_quarters_are_equal_in_number_and_ordered():
    values = torch.tensor([.9, .1, .5, .3, .7, .2, .8, .4])
    assert quarters(values).tolist() == [4, 1, 3, 2, 3, 1, 4, 2]
    assert quarters(torch.zeros(10)).bincount().tolist() == [0, 3, 2, 3, 2]


def test_every_method_is_scored_on_every_subset(trained):
    params, pack, evaluation = trained.params, trained.pack, evaluate(trained)
    evaluation.hand_crafted()
    evaluation.linear_probe()
    evaluation.tip_adapter()
    for method in params.methods:
        evaluation.learned(method)
    evaluation.class_descriptions()
    evaluation.retrieval()
    count = Counter((row["method"], row["protocol"], row["subset"]) for row in evaluation.rows)
    quarters_of = {(method, "typicality", f"quarter {number}"): 1 if method == "zero_shot" else 2
                   for method in ("zero_shot", "coop", "dualpt", "dualview", "aape")
                   for number in (1, 2, 3, 4)}
    recalls_of = {(method, "retrieval", direction): 3 * runs for method, runs in (
        ("zero_shot", 1), ("aape", 2)) for direction in ("image_to_text", "text_to_image")}
    runs = len(params.shots) * len(params.seeds)
    assert count == {
        ("zero_shot", "few_shot", "all"): 1, ("ensemble", "few_shot", "all"): 1,
        ("zero_shot", "base_to_new", "base"): 1, ("zero_shot", "base_to_new", "new"): 1,
        ("ensemble", "base_to_new", "base"): 1, ("ensemble", "base_to_new", "new"): 1,
        ("linear_probe", "few_shot", "all"): runs,
        ("tip_adapter", "few_shot", "all"): runs, ("coop", "few_shot", "all"): runs,
        ("coop", "base_to_new", "base"): 2, ("coop", "base_to_new", "new"): 2,
        # four ablations at one shot, and the descriptions alone
        ("dualpt", "few_shot", "all"): runs + 4 * 2 + 1,
        ("dualpt", "base_to_new", "base"): 2, ("dualpt", "base_to_new", "new"): 2,
        ("kgcoop", "base_to_new", "base"): 2, ("kgcoop", "base_to_new", "new"): 2,
        ("prograd", "base_to_new", "base"): 2, ("prograd", "base_to_new", "new"): 2,
        # each with an ensemble; four ablations
        ("dualview", "few_shot", "all"): 2 * runs,
        ("dualview", "base_to_new", "base"): (2 + 4) * 2,
        ("dualview", "base_to_new", "new"): (2 + 4) * 2,
        ("aape", "few_shot", "all"): runs,
        # also with another image's AAPE; eight ablations
        ("aape", "base_to_new", "base"): (2 + 8) * 2, ("aape", "base_to_new", "new"): (2 + 8) * 2,
        **quarters_of, **recalls_of}
    sizes = {row["subset"]: row["n_test"] for row in evaluation.rows}
    assert sizes["base"] + sizes["new"] == sizes["all"] == len(pack.test.labels)
    assert sum(sizes[f"quarter {number}"] for number in (1, 2, 3, 4)) == sizes["all"]
    assert sizes["image_to_text"] == sizes["all"]
    texts = references(evaluation, "llm").values()
    assert sizes["text_to_image"] == sum(map(len, texts))


def test_quarters_of_a_method_add_up_to_its_accuracy(trained):
    pack, evaluation = trained.pack, evaluate(trained)
    evaluation.hand_crafted()
    evaluation.learned("aape")
    for method, shots in (("zero_shot", 0), ("aape", 2)):
        rows = [row for row in evaluation.rows if row["method"] == method
                and row["seed"] == (method == "aape") and row["shots"] == shots]
        parts = [row for row in rows if row["protocol"] == "typicality"]
        whole = next(row for row in rows if row["protocol"] == "few_shot")
        right = sum(row["value"] * row["n_test"] for row in parts)
        assert right / len(pack.test.labels) == pytest.approx(whole["value"])


def test_every_row_says_which_of_which_images_are_right(trained):
    pack, evaluation = trained.pack, evaluate(trained)
    evaluation.hand_crafted(["zero_shot"])
    evaluation.learned("coop")
    evaluation.retrieval()
    predicted = next(evaluation.hand_crafted_predictions("all", ["zero_shot"]))[2]
    right = (predicted == pack.test.labels).numpy()
    images = {}
    for row in evaluation.rows:
        assert row["value"] == pytest.approx(100 * row["right"].mean())
        assert row["n_test"] == len(row["right"])
        images.setdefault((row["protocol"], row["subset"]), set()).add(row["images"])
        if (row["method"], row["protocol"], row["subset"]) == ("zero_shot", "few_shot", "all"):
            assert row["right"].tolist() == right.tolist()
    assert all(len(names) == 1 for names in images.values())
    # no two subsets have the same images, but retrieval from images is about all of them
    assert images["few_shot", "all"] == images["retrieval", "image_to_text"]
    assert len(set.union(*images.values())) == len(images) - 1


def test_images_are_named_by_what_they_are_and_their_order(trained):
    evaluation = evaluate(trained)
    count = len(evaluation.labels)
    named = evaluation.identity(slice(None))
    assert named == evaluation.identity(torch.ones(count, dtype=bool))
    assert named == evaluation.identity(list(range(count)))
    assert named != evaluation.identity(list(range(count))[::-1])
    assert named != evaluation.identity(slice(1, None))


def test_aape_is_scored_without_aggregator_and_sentences(trained):
    params, evaluation = trained.params, evaluate(trained)
    for setting in plan(params, "aape", "shapes"):
        method = evaluation.trained("aape", setting)
        learns = {"projection"} if setting.variant.projection != "language" else set()
        assert {name.split(".")[0] for name in method.state_dict()} == {"generator"} | learns
        assert not {"aggregator", "prompts", "centred"} & set(dir(method))
        assert any(name.startswith(f"{setting.key}/aggregator")
                   for name in evaluation.tensors("aape")) == (setting.variant.label != "mean")


def test_a_captioned_dataset_is_scored_in_retrieval_alone(trained, tiny_suite):
    backbone, encoder = trained.backbone, trained.encoder
    params = changed(load_params(tiny_suite / "params.yaml"))
    params._root = pack_root = trained.params.root / "captioned"
    shutil.copytree(tiny_suite / "images", pack_root / "images")
    pack = own_labels(extract(params, "pairs", backbone, pack_root / "cache"))
    train_plan(Task(params, pack, backbone, encoder), "aape")
    evaluation = Evaluation(params, pack, backbone, encoder)
    evaluation.retrieval()
    assert {row["protocol"] for row in evaluation.rows} == {"retrieval"}
    sizes = {(row["method"], row["subset"]): row["n_test"] for row in evaluation.rows}
    assert sizes == {("zero_shot", "image_to_text"): 12, ("zero_shot", "text_to_image"): 24,
                     ("aape", "image_to_text"): 12, ("aape", "text_to_image"): 24}


def test_prompts_are_scored_without_descriptions(trained):
    params, evaluation = trained.params, evaluate(trained)
    setting = plan(params, "dualpt", "shapes")[-1]
    for subset in ("all", "base", "new"):
        assert evaluation.trained("dualpt", setting, subset).descriptions is None


def dualview_setting(params, variant):
    return Setting("base_to_new", variant, params.base_to_new_shots)


def test_the_ensemble_with_all_weight_on_the_hand_crafted_view_is_zero_shot(trained):
    params, evaluation = trained.params, evaluate(trained)
    evaluation.hand_crafted()
    zero_shot = {row["subset"]: row["value"] for row in evaluation.rows
                 if row["method"] == "ensemble"}  # the view of this suite's variant
    setting = dualview_setting(params, params.dualview.base_to_new)
    for subset in ("base", "new"):
        images, labels = evaluation.images_of(subset)
        model = evaluation.trained("dualview", setting, subset)
        written = model.variant.model_copy(update={"ensemble_a": 1})
        assert top1(model.predict(images, written), labels).tolist() == [zero_shot[subset]] * 2


def test_new_classes_are_scored_by_the_critic_learned_on_base_ones(trained):
    params, evaluation = trained.params, evaluate(trained)
    setting = dualview_setting(params, params.dualview.ablations["predicts"])
    matrix = learned_by(evaluation.tensors("dualview"), setting)["critics.of_images.matrix"]
    assert (matrix.flatten(1).norm(dim=1) > 0).all()
    for subset in ("base", "new"):
        model, images = evaluation.trained("dualview", setting, subset), evaluation.images_of(
            subset)[0]
        scores = (images + images @ matrix) @ model.class_features().mT
        assert torch.equal(model.predict(images), scores.argmax(dim=-1))


def test_base_and_new_images_compete_among_their_own_classes(trained):
    pack, evaluation = trained.pack, evaluate(trained)
    names = evaluation.names_of("base") + evaluation.names_of("new")
    assert names == pack.class_names
    assert len(evaluation.names_of("base")) == 4  # the larger half of 7
    for subset in ("base", "new"):
        labels = evaluation.images_of(subset)[1]
        assert labels.min() == 0 and labels.max() == len(evaluation.names_of(subset)) - 1


@pytest.mark.parametrize("field", ["class_names", "image_fingerprint", "text_fingerprint", "seeds"])
def test_contexts_made_from_something_else_are_refused(trained, field):
    params = trained.params
    path = params.artefact("coop", "shapes")
    kept = path.read_bytes()
    record = provenance(trained, "coop")
    try:
        save_tensors(path, {"x": torch.zeros(1)}, {**record, field: "another"})
        with pytest.raises(DamagedFile, match=field):
            evaluate(trained).learned("coop")
    finally:
        path.write_bytes(kept)


def test_dualview_trains_on_base_classes_without_the_others_images_and_names(trained, monkeypatch):
    """Other new classes, with images that are no numbers, change nothing learned on base ones."""
    params, pack = trained.params, trained.pack
    learned = load_tensors(params.artefact("dualview", "shapes"))[0]
    settings = [setting for setting in plan(params, "dualview", "shapes")
                if setting.protocol == "base_to_new"]
    _, names = training_draws(params, pack, settings[0])
    new = pack.train.labels >= len(names)
    monkeypatch.setattr(pack, "class_names", [*names, *"xyz"])
    features, views = pack.train.features.clone(), pack.train.views
    features[new], views[new] = torch.nan, torch.nan
    images = SimpleNamespace(features=features, views=views, labels=pack.train.labels)
    monkeypatch.setattr(pack, "train", images)
    task = Task(params, pack, trained.backbone, trained.encoder)
    task.cached["sentences",] = {name: [name] for name in pack.class_names}
    for setting in settings:
        draws, _ = training_draws(params, pack, setting)
        method = dualview.build(task, setting, names, draws)
        schedule = schedule_of(params, "dualview", "shapes", setting)
        train(method, images, draws, schedule, setting.shots, params.seeds)
        for name, parameter in method.named_parameters():
            if parameter.requires_grad and not name.startswith(method.discarded):
                # not to the bit: texts are encoded beside others, of other lengths
                same = learned[f"{setting.key}/{name}"]
                assert (parameter - same).norm() <= 1e-5 * same.norm()


def test_training_never_reads_test_labels_or_val_labels(trained, monkeypatch):
    """Scrambled test labels change no learned number."""
    params, pack = trained.params, trained.pack
    learned = params.artefact("coop", "shapes").read_bytes()
    monkeypatch.setattr(pack.test, "labels", pack.test.labels.flip(0))

    params.artefact("coop", "shapes").unlink()  # which would be loaded
    train_plan(trained, "coop")
    assert params.artefact("coop", "shapes").read_bytes() == learned
