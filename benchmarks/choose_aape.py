"""How AAPE's settings were chosen: on validation images, never on test images.

    python benchmarks/choose_aape.py

Trains AAPE on each dataset with one thing changed at a time, and scores it on the validation
images. Few-shot is scored over all classes. For base-to-new the base classes are halved once more:
trained on one half, scored on both, so that no choice ever sees a new class; what is near the best
is trained in four divisions of the base classes. Test images are not looked at. `other_aape` is the
accuracy when every image gets the AAPE of another: whether the classifier listens to it.

Chosen is the learning rate with the highest mean over datasets and shots for few-shot (0.1: 68.4;
CoOp has 51.8) and with the highest H over four divisions for base-to-new (0.01: base 93.3, new
59.9, H 73.0; CoOp has 87.6, 49.8 and 63.5). CoOp's numbers are in choose_schedule.csv and, as `CE
only`, in choose_dualview_base_to_new.csv.

No choice of aggregator, reward or lambda is more than seeds differ away from another: what gains is
the projection, which adapts the class templates, and to exchange the AAPEs of images costs 0 to 4
points. It costs most without distillation (few-shot of grocery: 82 and 64), where accuracy is no
better for it. Attention over the sentences themselves (`identity`) with a large mu is taken because
only then the aggregator picks sentences: on validation images of dtd10 the weight of the largest is
3.6 times an even share, and it is the sentence closest to the image for 64 % (by chance 20 %).
Learned values with mu = 1 leave the weights even and move all summaries towards the mean image
instead, which 06_aape shows in its ablations.

Needs the features and describe stages (`dvc repro features describe`) and takes about an hour on
one core. What stands in benchmarks/choose_aape.csv already is not done again.
"""

import itertools
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F
from validation import base_to_new_means, changed, divisions, halved, scored, searched

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.clip.text_features import encode_descriptions
from promptstudy.datasets.packs import FeaturePack
from promptstudy.llm.descriptions import load_descriptions
from promptstudy.methods.aape import Classifier
from promptstudy.params import Setting, load_params
from promptstudy.params.methods.aape import AAPEVariant
from promptstudy.training import train

START = {"few_shot": {"lr": 0.1}, "base_to_new": {"lr": 0.01}}  # what changes are made to
BOTH = {
    "none": {}, "lr 0.003": {"lr": 0.003}, "lr 0.03": {"lr": 0.03},
    "batch 128": {"batch_size": 128}, "mu 10": {"mu": 10.0}, "identity": {"agg_values": "identity"},
    "mean": {"aggregator": "mean"}, "reward nce": {"reward": "nce"},
    "lambda 0": {"lambda_distill": 0.0}, "lambda 10": {"lambda_distill": 10.0},
    "gen d/4": {"gen_hidden": 64}, "gen residual": {"gen_residual": True},
    "proj linear": {"proj": "linear"}}
CHOSEN = {"agg_values": "identity", "mu": 100.0}
CHANGES = {
    "few_shot": BOTH | {"lr 0.01": {"lr": 0.01}, "lr 0.3": {"lr": 0.3}, "chosen": CHOSEN},
    "base_to_new": BOTH | {
        "lr 0.005": {"lr": 0.005}, "lr 0.1": {"lr": 0.1}, "chosen": CHOSEN,
        "chosen, lr 0.003": {"lr": 0.003, **CHOSEN}, "chosen, lr 0.005": {"lr": 0.005, **CHOSEN},
        "chosen, lr 0.02": {"lr": 0.02, **CHOSEN}, "chosen, lr 0.03": {"lr": 0.03, **CHOSEN},
        "chosen, lambda 0": {"lambda_distill": 0.0, **CHOSEN}}}
SHORTLIST = ("mean", *(title for title in CHANGES["base_to_new"] if "chosen" in title))


@torch.no_grad()
def predict(method, features, shift=0):
    """Return the predictions [R, n] of images [n, d] with the AAPE of the image `shift` before."""
    features = features.expand(len(method.templates), -1, -1)
    generated = method.generate(features).roll(shift, dims=1)
    return method.logits(features, generated).argmax(dim=-1)


def scores(params, pack, backbone, templates, prompts, setting, schedule):
    """Return rows of the validation accuracies of one setting, own AAPE's and `other_aape`."""
    draws, subsets = halved(params, pack, setting)
    seen = next(iter(subsets.values()))
    about = setting.variant, backbone.logit_scale, params.seeds
    method = Classifier(templates[seen], *about, prompts.of(seen))
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    features, rows = F.normalize(pack.val.features, dim=-1), []
    for subset, classes in subsets.items():
        trained = Classifier(templates[classes], *about).restore(method.state_dict())
        own, other = (scored(pack, classes, lambda images, trained=trained, shift=shift: predict(
            trained, features[images], shift and images.sum().item() // 2)) for shift in (0, 1))
        rows.append({"subset": subset, **own, "other_aape": other["val_accuracy"]})
    return rows


def runs(params):
    """Yield what is searched, as `validation.searched` takes it."""
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    for name in params.datasets:
        packs = divisions(FeaturePack.load(params.artefact("features", name)))
        texts = load_descriptions(params, name, packs["first half"].class_names).texts
        for division, pack in packs.items():
            prompts = encode_descriptions(encoder, texts, pack.class_names)
            templates = encoder.encode_templates(pack.class_names, [params.datasets[name].template])
            for protocol, shots, title in searches(division):
                setting = Setting(protocol, AAPEVariant(), shots)
                change = START[protocol] | CHANGES[protocol][title]
                key = {"dataset": name, "protocol": protocol, "division": division, "shots": shots,
                       "change": title}
                yield key, partial(scores, params, pack, backbone, templates, prompts,
                                   *changed(setting, params.aape.schedule, change))


def searches(division):
    """Yield what is searched in a division of the base classes: protocol, shots and change."""
    if division == "first half":
        yield from itertools.product(["few_shot"], (1, 16), CHANGES["few_shot"])
        yield from itertools.product(["base_to_new"], [16], CHANGES["base_to_new"])
    else:
        yield from itertools.product(["base_to_new"], [16], SHORTLIST)


def summary(table):
    """Return what is chosen by: means over datasets, and H of the base classes' halves.

    First of the first division, then (`base, 4` and so on) of all four where all were trained.
    """
    first = table[table["division"] == "first half"]
    few_shot = first[first["protocol"] == "few_shot"].pivot_table(
        index="change", columns="shots", values="val_accuracy", sort=False)
    four = base_to_new_means(table[table["change"].isin(SHORTLIST)], "change").add_suffix(", 4")
    means = few_shot.assign(few_shot=few_shot.mean(axis=1)).join(
        [base_to_new_means(first, "change"), four], how="outer")
    return means.reindex(table["change"].unique())


if __name__ == "__main__":
    found = searched(Path(__file__).with_suffix(".csv"), runs(load_params()))
    print(summary(found).round(1).to_string())
