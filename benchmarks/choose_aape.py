"""How AAPE's settings were chosen: on validation images, never on test images.

    python benchmarks/choose_aape.py

Trains AAPE on each dataset with one thing changed at a time, and scores it on the validation
images. Few-shot is scored over all classes. For base-to-new the base classes are divided once more,
in four ways: trained on one half, scored on both, so that no choice ever sees a new class. Test
images are not looked at. `other_aape` is the accuracy when every image gets the AAPE of another:
whether the classifier listens to it. Chosen is the highest mean over datasets and shots for
few-shot and the highest H for base-to-new, among `SEARCHED`; `CONTROLS` are trained for comparison.

Needs the features and describe stages (`dvc repro features describe`) and takes about 25 minutes
on one core. What stands in benchmarks/choose_aape.csv already is not done again.

What was found: 600 steps are enough in both protocols (few-shot 69.4 -> 70.0, H 77.2 -> 77.8; with
1200: 70.4 and 77.7), and in few-shot a weight of distillation of 0.3 is best (70.3 with 600 steps).
In base-to-new the weight 1 is kept, level with 0.3 (77.2, 77.0) and ahead of 3 (76.1) and of none
(76.7). Among the controls the template's text (78.0), the mean and the random aggregator (77.8
both) are level with or above the sentences summarised by attention (77.2); the perceptrons on class
templates, which hear no text, too (77.3, 77.7). Shuffled text is below (74.6).
"""

import itertools
from functools import partial
from pathlib import Path

from torch.nn import functional as F
from validation import base_to_new_means, changed, divisions, halved, scored, searched

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.clip.text_features import encode_descriptions, filled, shuffled
from promptstudy.datasets.packs import FeaturePack
from promptstudy.llm.descriptions import load_descriptions
from promptstudy.methods.aape import Classifier, other_images
from promptstudy.params import Setting, load_params
from promptstudy.params.methods.aape import AAPEVariant
from promptstudy.training import train

COMMON = {"agg_values": "identity", "mu": 100.0}
START = {"few_shot": {"lr": 0.3, **COMMON}, "base_to_new": {"lr": 0.01, **COMMON}}
BOTH = {"none": {}, "lambda 0.3": {"lambda_distill": 0.3}, "lambda 3": {"lambda_distill": 3.0},
        "share 1": {"share": 1.0}, "600 steps": {"max_steps": 600},
        "1200 steps": {"max_steps": 1200}}
SEARCHED = {
    "few_shot": BOTH | {"lr 0.1": {"lr": 0.1}, "lr 1": {"lr": 1.0}, "lambda 0.3, 600 steps": {
        "lambda_distill": 0.3, "max_steps": 600}, "lambda 0.3, 1200 steps": {
        "lambda_distill": 0.3, "max_steps": 1200}},
    "base_to_new": BOTH | {
        "lr 0.005": {"lr": 0.005}, "lr 0.02": {"lr": 0.02}, "lr 0.03": {"lr": 0.03},
        "share 0.3": {"share": 0.3}, "dropout 0": {"dropout": 0.0},
        "learned values": {"agg_values": "learned", "mu": 1.0}}}
TEXTS = {"no distillation": {"lambda_distill": 0.0}, "template": {"reference": "template"},
         "shuffled": {"reference": "shuffled"}}
CONTROLS = {
    "few_shot": TEXTS | {"class MLP": {"projection": "class", "lr": 0.1},
                         "blind MLP": {"projection": "blind", "lr": 0.1}},
    "base_to_new": TEXTS | {
        "class MLP": {"projection": "class"}, "blind MLP": {"projection": "blind"},
        "mean": {"aggregator": "mean"}, "random": {"aggregator": "random"},
        "mlp": {"aggregator": "mlp", "mu": 1.0}}}


def references(llm, template, count):
    """Return the `DescriptionFeatures` of the first `count` classes of every kind of text."""
    return {"llm": llm.of(slice(count)), "template": template.of(slice(count)),
            "shuffled": llm.of(shuffled(count))}


def scores(params, pack, backbone, llm, template, setting, schedule):
    """Return rows of the validation accuracies of one setting, own AAPE's and `other_aape`."""
    templates = template.mean
    draws, subsets = halved(params, pack, setting)
    seen = next(iter(subsets.values()))
    about = setting.variant, backbone.logit_scale, params.seeds
    prompts = references(llm, template, seen.stop)[setting.variant.reference]
    method = Classifier(templates[seen], *about, prompts)
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    features, rows = F.normalize(pack.val.features, dim=-1), []
    for subset, classes in subsets.items():
        trained = Classifier(templates[classes], *about).restore(method.state_dict())
        own = scored(pack, classes, lambda images, trained=trained: trained.predict(
            features[images]))
        other = scored(pack, classes, lambda images, trained=trained: trained.predict(
            features[images], other_images(features[images])))
        rows.append({"subset": subset, **own, "other_aape": other["val_accuracy"]})
    return rows


def runs(params):
    """Yield what is searched, as `validation.searched` takes it."""
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    for name, dataset in params.datasets.items():
        whole = FeaturePack.load(params.artefact("features", name))
        names = whole.class_names
        kinds = (load_descriptions(params, name, names).texts, filled([dataset.template], names))
        texts = [encode_descriptions(encoder, kind, names) for kind in kinds]
        for division, pack in divisions(whole).items():
            of_classes = [kind.of([names.index(one) for one in pack.class_names]) for kind in texts]
            for protocol, shots, title in searches(division):
                setting = Setting(protocol, AAPEVariant(), shots)
                change = START[protocol] | changes(protocol)[title]
                key = {"dataset": name, "protocol": protocol, "division": division, "shots": shots,
                       "change": title}
                yield key, partial(scores, params, pack, backbone, *of_classes,
                                   *changed(setting, params.aape.schedule, change))


def changes(protocol):
    """Return everything that is trained in a protocol, {title: change to its start}."""
    return SEARCHED[protocol] | CONTROLS[protocol]


def searches(division):
    """Yield what is trained in a division of the base classes: protocol, shots and change."""
    if division == "first half":
        yield from itertools.product(["few_shot"], (1, 16), changes("few_shot"))
    yield from itertools.product(["base_to_new"], [16], changes("base_to_new"))


def summary(table):
    """Return what is chosen by: means over datasets, and over the base classes' divisions.

    `all` is of few-shot; the other columns are of base-to-new.
    """
    few_shot = table[table["protocol"] == "few_shot"].pivot_table(
        index="change", columns="shots", values="val_accuracy", sort=False)
    exchanged = table.pivot_table(index="change", columns="subset", values="other_aape")
    means = few_shot.assign(few_shot=few_shot.mean(axis=1)).join(
        base_to_new_means(table, "change"), how="outer")
    return means.join(exchanged.add_suffix(", other")).reindex(table["change"].unique())


if __name__ == "__main__":
    found = searched(Path(__file__).with_suffix(".csv"), runs(load_params()))
    print(summary(found).round(1).to_string())
