"""Protocols cross_dataset and domain: what is tested is what was trained, and on what it says."""

from collections import Counter

import pytest
import torch
from conftest import changed
from torch.nn import functional as F

from promptstudy import transfer
from promptstudy.class_texts import descriptions, view_features
from promptstudy.datasets import shifts
from promptstudy.datasets.subsets import labels_in
from promptstudy.errors import DatasetError
from promptstudy.evaluation import Evaluation
from promptstudy.features import extract
from promptstudy.llm.descriptions import describe, path_of, save
from promptstudy.methods import linear_probe
from promptstudy.methods.coop import CoOp
from promptstudy.metrics import top1
from promptstudy.params import load_params
from promptstudy.plans import plan, training_draws, transferred
from promptstudy.training import learned_by


@pytest.fixture(scope="module")
def packs(tiny_suite, tiny_backbone, tmp_path_factory):
    """Packs of another dataset (`figures`), of a shift (`lines`) and of some classes (`photos`)."""
    params = load_params(tiny_suite / "params.yaml")
    cache = tmp_path_factory.mktemp("cache")
    return {name: extract(params, name, tiny_backbone, cache)
            for name in ("figures", "lines", "photos")}


@pytest.fixture
def source(trained):
    """The evaluation of the dataset that was trained on."""
    return Evaluation(trained.params, trained.pack, trained.backbone, trained.encoder)


def other(source, packs):
    """The evaluation of `figures`; nobody was asked about its classes."""
    params, pack = source.params, packs["figures"]
    save(path_of(params, "figures"), describe(params, "figures", pack.class_names))
    return Evaluation(params, pack, source.backbone, source.encoder)


def versions(packs):
    return {name: packs[name] for name in ("lines", "photos")}


def values(rows, **chosen):
    """`{(method, variant, seed): value}` of the rows with these values."""
    return {(row["method"], row["variant"], row["seed"]): row["value"] for row in rows
            if all(row[key] == value for key, value in chosen.items())}


def test_every_method_is_tested_on_every_dataset(source, packs):
    transfer.cross_dataset(source, {"shapes": source, "figures": other(source, packs)})
    count = Counter((row["method"], row["variant"], row["subset"]) for row in source.rows)
    runs = {("zero_shot", "own template"): 1, ("ensemble", "7 templates and own"): 1,
            ("coop", "M4"): 2, ("kgcoop", "w8-M4"): 2, ("prograd", "w1-M4"): 2,
            ("dualpt", "N2-M4"): 2, ("dualview", "M4"): 2, ("dualview", "M4 a=0.5"): 2,
            ("aape", "attention"): 2}
    assert count == {(*key, subset): number for key, number in runs.items()
                     for subset in ("shapes", "figures")}
    assert {(row["dataset"], row["protocol"], row["shots"] * row["seed"] > 0)
            for row in source.rows} == {("shapes", "cross_dataset", flag) for flag in (0, 1)}
    sizes = {row["subset"]: row["n_test"] for row in source.rows}
    assert sizes == {"shapes": len(source.pack.test), "figures": len(packs["figures"].test)}


def test_every_method_is_tested_on_every_shift(source, packs):
    transfer.domain(source, versions(packs))
    count = Counter((row["method"], row["subset"]) for row in source.rows)
    runs = {"zero_shot": 1, "ensemble": 1, "linear_probe": 2, "coop": 2, "kgcoop": 2, "prograd": 2,
            "dualpt": 2, "dualview": 4, "aape": 2}  # few-shot variants are the same, or called so
    assert count == {(method, subset): number for method, number in runs.items()
                     for subset in ("shapes", "original", "lines", "photos")}
    sizes = {row["subset"]: row["n_test"] for row in source.rows}
    assert sizes == {"shapes": 21, "original": 7, "lines": 7, "photos": 15}


def test_at_home_a_prompt_that_is_shared_has_its_few_shot_accuracy(source, packs):
    transfer.cross_dataset(source, {"shapes": source})
    transfer.domain(source, {})
    source.hand_crafted()
    source.linear_probe()
    for method in ("coop", "dualpt"):  # whose variant is trained few-shot anyway
        source.learned(method)
    rows = values(source.rows, protocol="few_shot", shots=2)
    rows |= values(source.rows, protocol="few_shot", shots=0)
    for protocol in ("cross_dataset", "domain"):
        found = values(source.rows, protocol=protocol, subset="shapes")
        shared = {key for key in found if key[0] in ("zero_shot", "ensemble", "coop", "dualpt")}
        assert shared and all(found[key] == rows[key] for key in shared)
    probes = {key for key in found if key[0] == "linear_probe"}
    assert len(probes) == 2 and all(found[key] == rows[key] for key in probes)
    assert "original" not in {row["subset"] for row in source.rows}


def test_without_a_shift_images_have_the_source_s_accuracy(source, tiny_backbone, tiny_suite,
                                                           monkeypatch, tmp_path):
    params = load_params(tiny_suite / "params.yaml")
    params = changed(params, transfer=params.transfer.model_copy(update={"per_class": None}))
    monkeypatch.setattr(shifts, "shifted", lambda image, shift, seed: image)
    same = extract(params, "lines", tiny_backbone, tmp_path)
    transfer.domain(source, {"lines": same})
    at_home = values(source.rows, subset="shapes")
    assert len(at_home) == 18
    assert values(source.rows, subset="lines") == values(source.rows, subset="original") == at_home


def test_shifted_images_have_another_accuracy_and_the_originals_their_own(source, packs):
    transfer.domain(source, versions(packs))
    lines, original = (values(source.rows, subset=name) for name in ("lines", "original"))
    assert lines != original
    where = [source.pack.test.paths.index(path) for path in packs["lines"].test.paths]
    classes = source.encoder.encode_templates(source.pack.class_names, [source.template])
    predicted = (source.features[where] @ classes.T).argmax(dim=-1)
    expected = top1(predicted, source.labels[where]).item()
    assert original["zero_shot", "own template", 0] == expected


def test_only_the_classes_that_are_there_are_predicted(source, packs):
    """Every prediction is that among all of the source's classes, without the others."""
    pack = packs["photos"]
    target = Evaluation(source.params, pack, source.backbone, source.encoder, source)
    labels = target.source_labels
    assert [source.pack.class_names[label] for label in labels] == pack.class_names
    images = F.normalize(pack.test.features, dim=-1)
    setting = transferred(source.params, "coop")
    with torch.no_grad():
        whole = source.trained("coop", setting)
        scores = whole.logits(images, whole.class_features())
        expected = scores[..., labels].argmax(dim=-1)
        model = source.trained("coop", setting, onto=target)
        assert torch.equal(model.predict(images), expected)
        assert not torch.equal(expected, scores.argmax(dim=-1))  # the others do compete
    transfer.domain(source, versions(packs))
    rows = values(source.rows, subset="photos", method="coop")
    assert list(rows.values()) == top1(expected, pack.test.labels).tolist()
    templates = source.encoder.encode_templates(source.pack.class_names, [source.template])
    zero_shot = (images @ templates.T)[:, labels].argmax(dim=-1)
    probes = [source.probe(2, seed) for seed in source.params.seeds]
    for seed, (weight, bias) in zip(source.params.seeds, probes, strict=True):
        scores = (pack.test.features @ weight.T + bias)[:, labels]
        expected = top1(scores.argmax(dim=-1), pack.test.labels).item()
        assert values(source.rows, subset="photos")["linear_probe", "val C", seed] == expected
    assert values(source.rows, subset="photos")["zero_shot", "own template", 0] == \
        top1(zero_shot, pack.test.labels).item()
    assert linear_probe.predict(pack.test.features, *probes[0]).max() > 2  # had the others competed


@pytest.mark.parametrize("method", ["coop", "kgcoop", "prograd", "dualpt", "dualview"])
def test_the_prompts_that_are_tested_are_those_that_were_trained(source, packs, method):
    target = other(source, packs)
    setting = transferred(source.params, method)
    learned = learned_by(source.tensors(method), setting)["contexts"]
    model = source.trained(method, setting, onto=target)
    assert torch.equal(model.contexts, learned) and not torch.equal(learned[0], learned[1])
    if method in ("coop", "kgcoop", "prograd"):  # which predict alike
        context = getattr(setting.variant, "context", setting.variant)
        alone = CoOp(source.encoder, packs["figures"].class_names, context,
                     source.backbone.logit_scale, contexts=learned)
        transfer.cross_dataset(source, {"figures": target})
        found = values(source.rows, method=method, subset="figures")
        expected = top1(alone.predict(target.features), target.labels).tolist()
        assert list(found.values()) == expected


def test_a_dualview_critic_that_predicts_does_so_for_the_other_dataset_s_classes(source, packs):
    setting = next(setting for setting in plan(source.params, "dualview", "shapes")
                   if setting.variant.critic_predicts)
    learned = learned_by(source.tensors("dualview"), setting)["critics.of_images.matrix"]
    model = source.trained("dualview", setting, onto=other(source, packs))
    assert torch.equal(model.critics["of_images"].matrix, learned) and learned.norm() > 0


def test_aape_is_tested_with_the_other_dataset_s_template(source, packs):
    target = other(source, packs)
    model = source.trained("aape", transferred(source.params, "aape"), onto=target)
    names = packs["figures"].class_names
    expected = source.encoder.encode_templates(names, ["a photo of a {}."])
    assert torch.equal(model.templates[0], expected)
    assert source.template != "a photo of a {}."
    learned = learned_by(source.tensors("aape"), transferred(source.params, "aape"))
    assert torch.equal(model.state_dict()["generator.first.weight"],
                       learned["generator.first.weight"])


def test_hand_crafted_views_are_of_the_images_own_classes(source, packs):
    target = Evaluation(source.params, packs["photos"], source.backbone, source.encoder, source)
    view, whole = (view_features(task, "ensemble") for task in (target, source))
    for place, name in enumerate(packs["photos"].class_names):
        label = source.pack.class_names.index(name)
        assert torch.equal(view.features[place], whole.features[label])
        assert torch.equal(descriptions(target).mean[place], descriptions(source).mean[label])


def test_classes_of_a_shifted_version_must_be_the_source_s():
    assert labels_in(["a", "b", "c"], "x", ["c", "a"]) == [2, 0]
    assert labels_in(["a", "b", "b"], "x", ["a", "b", "b"]) == [0, 1, 2]  # as ImageNet has
    with pytest.raises(DatasetError, match="transfer.domain.x: .* does not have 'd', 'b' .or has"):
        labels_in(["a", "b", "b"], "x", ["a", "d", "b"])


def test_what_is_tested_elsewhere_learns_from_the_images_of_a_few_shot_run(trained):
    params, pack = trained.params, trained.pack
    setting = transferred(params, "kgcoop")
    assert setting.protocol == "transfer"
    draws, names = training_draws(params, pack, setting)
    assert names == pack.class_names
    few, _ = training_draws(params, pack, setting._replace(protocol="few_shot"))
    assert torch.equal(draws, few)
