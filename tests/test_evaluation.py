"""What is scored, against what, and that nothing else can be."""

import shutil

import pytest
import torch

from promptstudy.clip.descriptions import description_sources
from promptstudy.clip.text import TextEncoder
from promptstudy.evaluation import Comparison, Evaluation, top1
from promptstudy.features import extract
from promptstudy.files import DamagedFile, save_tensors
from promptstudy.llm.descriptions import describe, path_of, save
from promptstudy.methods import linear_probe
from promptstudy.methods.coop import CoOp
from promptstudy.methods.dualpt import DuAlPT
from promptstudy.params import load_params
from promptstudy.training import origin, plan, train_plan


def test_top1_counts_images_in_percent_for_every_run():
    predicted = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0]])
    assert top1(predicted, torch.tensor([0, 1, 1, 0])).tolist() == [75, 50]


def test_comparison_finds_what_changed():
    labels = torch.tensor([0, 0, 1, 1])
    before = torch.tensor([[.9, .1], [.6, .4], [.8, .2], [.1, .9]])
    after = torch.tensor([[.9, .1], [.3, .7], [.2, .8], [.1, .9]])
    comparison = Comparison(["cat", "dog"], list("abcd"), labels, before, after)
    assert comparison.per_class_change().to_dict() == {"cat": -50, "dog": 50}
    gained, spoilt = comparison.examples(count=1)
    assert (gained["path"], gained["truth"]) == ("c", "dog")
    assert (spoilt["path"], spoilt["truth"]) == ("b", "cat")
    assert gained["after"][0][0] == "dog"
    assert gained["after"][0][1] == pytest.approx(80)


@pytest.fixture(scope="module")
def trained(tiny_suite, tiny_backbone, tmp_path_factory):
    """Params, pack, backbone and encoder of a tiny dataset whose methods have been trained."""
    params = load_params(tiny_suite / "params.yaml")
    params._root = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny_suite / "llm", params.root / "llm")
    pack = extract(load_params(tiny_suite / "params.yaml"), "shapes", tiny_backbone,
                   params.root / "cache")
    encoder = TextEncoder(tiny_backbone.model, tiny_backbone.tokenizer)

    def build(setting, names, draws):
        return CoOp(encoder, names, setting.variant, tiny_backbone.logit_scale, seeds=params.seeds)

    train_plan(params, "coop", pack, tiny_backbone, build)
    described = describe(params, "shapes", pack.class_names)
    save(path_of(params, "shapes"), described)
    texts = description_sources(encoder, described.texts, pack.class_names,
                                params.datasets["shapes"].template)

    def build_dualpt(setting, names, draws):
        return DuAlPT(encoder, names, setting.variant, tiny_backbone.logit_scale,
                             seeds=params.seeds, train_local=pack.train.local,
                             descriptions=texts[setting.variant.descriptions].of(slice(len(names))))

    train_plan(params, "dualpt", pack, tiny_backbone, build_dualpt, described.texts)
    save_tensors(params.artefact("linear_probe", "shapes"), linear_probe.fit_all(params, pack),
                 linear_probe.origin(params, pack, tiny_backbone))
    return params, pack, tiny_backbone, encoder


def test_every_method_is_scored_on_every_subset(trained):
    params, pack, backbone, encoder = trained
    evaluation = Evaluation(params, "shapes", pack, backbone, encoder)
    evaluation.hand_crafted()
    evaluation.linear_probe()
    for method in params.methods:
        evaluation.learned(method)
    evaluation.class_descriptions()
    count = {}
    for row in evaluation.rows:
        key = row["method"], row["protocol"], row["subset"]
        count[key] = count.get(key, 0) + 1
    runs = len(params.shots) * len(params.seeds)
    assert count == {
        ("zero_shot", "few_shot", "all"): 1, ("ensemble", "few_shot", "all"): 1,
        ("zero_shot", "base_to_new", "base"): 1, ("zero_shot", "base_to_new", "new"): 1,
        ("ensemble", "base_to_new", "base"): 1, ("ensemble", "base_to_new", "new"): 1,
        ("linear_probe", "few_shot", "all"): runs, ("coop", "few_shot", "all"): runs,
        ("coop", "base_to_new", "base"): 2, ("coop", "base_to_new", "new"): 2,
        # four studies at one shot, and the descriptions alone
        ("dualpt", "few_shot", "all"): runs + 4 * 2 + 1,
        ("dualpt", "base_to_new", "base"): 2, ("dualpt", "base_to_new", "new"): 2}
    sizes = {row["subset"]: row["n_test"] for row in evaluation.rows}
    assert sizes["base"] + sizes["new"] == sizes["all"] == len(pack.test.labels)


def test_prompts_are_scored_without_descriptions_unless_the_variant_reads_them(trained):
    params, pack, backbone, encoder = trained
    evaluation = Evaluation(params, "shapes", pack, backbone, encoder)
    setting = plan(params, "dualpt", "shapes")[-1]
    for subset in ("all", "base", "new"):
        assert evaluation.trained("dualpt", setting, subset).descriptions is None
    reading = setting._replace(variant=setting.variant.model_copy(update={"llm_ensemble": 1}))
    descriptions = evaluation.trained("dualpt", reading, "new").descriptions
    assert torch.equal(descriptions.features, evaluation.descriptions.features[4:])


def test_base_and_new_images_compete_among_their_own_classes(trained):
    params, pack, backbone, encoder = trained
    evaluation = Evaluation(params, "shapes", pack, backbone, encoder)
    names = evaluation.names_of("base") + evaluation.names_of("new")
    assert names == pack.class_names
    assert len(evaluation.names_of("base")) == 4  # the larger half of 7
    for subset in ("base", "new"):
        labels = evaluation.images_of(subset)[1]
        assert labels.min() == 0 and labels.max() == len(evaluation.names_of(subset)) - 1


@pytest.mark.parametrize("field", ["class_names", "image_fingerprint", "text_fingerprint", "seeds"])
def test_contexts_made_from_something_else_are_refused(trained, field):
    params, pack, backbone, encoder = trained
    path = params.artefact("coop", "shapes")
    kept = path.read_bytes()
    record = origin(params, "coop", pack, backbone)
    try:
        save_tensors(path, {"x": torch.zeros(1)}, {**record, field: "another"})
        with pytest.raises(DamagedFile, match=field):
            Evaluation(params, "shapes", pack, backbone, encoder).learned("coop")
    finally:
        path.write_bytes(kept)


def test_training_never_reads_test_labels_or_val_labels(trained, monkeypatch):
    """Scrambled test labels change no learned number."""
    params, pack, backbone, encoder = trained
    learned = params.artefact("coop", "shapes").read_bytes()
    monkeypatch.setattr(pack.test, "labels", pack.test.labels.flip(0))

    def build(setting, names, draws):
        return CoOp(encoder, names, setting.variant, backbone.logit_scale, seeds=params.seeds)

    train_plan(params, "coop", pack, backbone, build)
    assert params.artefact("coop", "shapes").read_bytes() == learned
