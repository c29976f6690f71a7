"""How the dual-view method's settings and KgCoOp's weight were chosen: on validation images.

    python benchmarks/choose_dualview.py base_to_new|few_shot

Trains the dual-view method on each dataset with one thing changed at a time, and KgCoOp with
several weights. The base classes are halved once more: trained on one half, scored on the
validation images of both, so that no choice ever sees a new class. Test images are not looked at.
Every trained dual-view method is scored with several weights a of the hand-crafted view. What is
near the best is trained in four divisions of the base classes; single ones differ by more than the
settings do.

Chosen is the highest H that costs at most 3 points of base accuracy against training without
information and augmentation and predicting by the soft view (CE only: base 87.6, H 63.5): lambda_mi
0.3 and a = 0.2, with a base accuracy of 85.7 and H = 68.2. The same training with a = 0 has 67.0,
as has lambda_mi 1; CE only with a = 0.2 has 66.2. Of KgCoOp's weights 0.5 is best, 66.6, where its
paper has 8.

Few-shot, by the accuracy on the classes trained with 1 and 16 images: cross-entropy alone is best
(76.1), so the weight is the smallest searched, lambda_mi 0.1 without augmentation (74.9).

Needs the features and describe stages (`dvc repro features describe`) and takes about an hour on
two cores. What stands in benchmarks/choose_dualview_*.csv already is not done again.
"""

import argparse
import itertools
from functools import partial
from pathlib import Path

from torch.nn import functional as F
from validation import base_to_new_means, changed, divisions, halved, scored, searched

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.clip.text_features import encode_descriptions, hand_crafted_texts
from promptstudy.datasets.packs import FeaturePack
from promptstudy.llm.descriptions import load_descriptions
from promptstudy.methods.augmentation import Support, image_prototypes, stand_ins
from promptstudy.methods.coop import CoOp
from promptstudy.methods.dualview import DualView
from promptstudy.methods.kgcoop import KgCoOp
from promptstudy.params import ContextParams, Setting, load_params
from promptstudy.params.methods.dualview import DualViewVariant
from promptstudy.params.methods.kgcoop import KgCoOpVariant
from promptstudy.training import train

WORDS = ContextParams(n_ctx=4, init="a photo of a")
ENSEMBLES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
CHANGES = {
    "none": {}, "CE only": {"lambda_mi": 0.0, "augmentation": "none"},
    "MI only": {"augmentation": "none"}, "aug only": {"lambda_mi": 0.0},
    "lambda_mi 0.3": {"lambda_mi": 0.3}, "lambda_mi 3": {"lambda_mi": 3.0},
    "lambda_mi 10": {"lambda_mi": 10.0}, "lambda_mi 30": {"lambda_mi": 30.0},
    "tau_mi 0.03": {"tau_mi": 0.03}, "tau_mi 0.3": {"tau_mi": 0.3}, "tau_mi 1": {"tau_mi": 1.0},
    "tau_mi 0.3, lambda_mi 3": {"tau_mi": 0.3, "lambda_mi": 3.0},
    "jsd": {"estimator": "jsd"}, "jsd, lambda_mi 3": {"estimator": "jsd", "lambda_mi": 3.0},
    "iic": {"estimator": "iic"}, "iic, lambda_mi 3": {"estimator": "iic", "lambda_mi": 3.0},
    "ensemble": {"hard_view": "ensemble"}, "descriptions": {"hard_view": "descriptions"},
    "intra_mix": {"augmentation": "intra_mix"}, "inter_mix": {"augmentation": "inter_mix"},
    "proto_ctx": {"augmentation": "proto_ctx"},
    "inter_mix, lambda_aug 0.3": {"augmentation": "inter_mix", "lambda_aug": 0.3},
    "inter_mix, lambda_mi 0.3": {"augmentation": "inter_mix", "lambda_mi": 0.3},
    "inter_mix, both 0.3": {"augmentation": "inter_mix", "lambda_aug": 0.3, "lambda_mi": 0.3},
    "lambda_aug 0.3": {"lambda_aug": 0.3}, "lambda_aug 3": {"lambda_aug": 3.0},
    "lr 0.01": {"lr": 0.01}}
WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of KgCoOp
SHORTLIST = {"none", "CE only", "lambda_mi 0.3", "jsd", "intra_mix", "inter_mix",
             "inter_mix, lambda_aug 0.3", "KgCoOp 0.5"}  # within a point of the best, CE and jsd
FEW_SHOT_CHANGES = {title: CHANGES[title] for title in (
    "none", "CE only", "MI only", "aug only", "lambda_mi 0.3", "jsd")} | {
    "MI only, lambda_mi 0.3": {"augmentation": "none", "lambda_mi": 0.3},
    "MI only, lambda_mi 0.1": {"augmentation": "none", "lambda_mi": 0.1},
    "lambda_mi 0.1, lambda_aug 0.3": {"lambda_aug": 0.3, "lambda_mi": 0.1},
    "intra_mix, lambda_mi 0.3": {"augmentation": "intra_mix", "lambda_mi": 0.3}}
DIVISIONS = ("first half", "second half", "even", "odd")  # of the base classes


def dualview_scores(params, pack, backbone, encoder, hard, setting, schedule):
    """Return rows of the validation accuracies of one setting: `a`, `subset`, mean and std."""
    draws, subsets = halved(params, pack, setting)
    base, new = subsets.values()
    hard, support = hard[setting.variant.hard_view], Support.of(pack.train, draws)
    method = DualView(encoder, pack.class_names[base], setting.variant, backbone.logit_scale,
                      seeds=params.seeds, hard=hard.of(base), support=support)
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    known = image_prototypes(support, base.stop)
    prototypes = {"base": known, "new": stand_ins(hard.of(new).mean, known, hard.of(base).mean)}
    learned = {name: p for name, p in method.named_parameters() if p.requires_grad}
    features, rows = F.normalize(pack.val.features, dim=-1), []
    for subset, classes in subsets.items():
        trained = DualView(encoder, pack.class_names[classes], setting.variant,
                           backbone.logit_scale, contexts=method.contexts.detach(),
                           seeds=params.seeds, hard=hard.of(classes),
                           prototypes=prototypes[subset])
        trained.load_state_dict(learned, strict=False)
        for a in ENSEMBLES:
            accuracy = scored(pack, classes, lambda images, trained=trained, a=a: trained.predict(
                features[images], a))
            rows.append({"a": a, "subset": subset, **accuracy})
    return rows


def kgcoop_scores(params, pack, backbone, encoder, hard, setting, schedule):
    """Return such rows of KgCoOp, with a = 0."""
    draws, subsets = halved(params, pack, setting)
    base = subsets["base"]
    method = KgCoOp(encoder, pack.class_names[base], setting.variant, backbone.logit_scale,
                    seeds=params.seeds, hard=hard["template"].mean[base])
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    features, rows = F.normalize(pack.val.features, dim=-1), []
    for subset, classes in subsets.items():
        trained = CoOp(encoder, pack.class_names[classes], setting.variant.context,
                       backbone.logit_scale, contexts=method.contexts.detach())
        accuracy = scored(pack, classes,
                          lambda images, trained=trained: trained.predict(features[images]))
        rows.append({"a": 0.0, "subset": subset, **accuracy})
    return rows


def base_to_new(params):
    """Yield `(division of the base classes, shots, run)`; a run is a title and what it trains."""
    shots, words = params.base_to_new_shots, DualViewVariant(context=WORDS)
    runs = [(title, dualview_scores, words, params.dualview.schedule, change)
            for title, change in CHANGES.items()]
    runs += [(f"KgCoOp {weight:g}", kgcoop_scores, KgCoOpVariant(context=WORDS),
              params.kgcoop.schedule, {"weight": weight}) for weight in WEIGHTS]
    for division, run in itertools.product(DIVISIONS, runs):
        if division == DIVISIONS[0] or run[0] in SHORTLIST:
            yield division, shots, run


def few_shot(params):
    """The same for the few-shot settings, of which the base half's accuracy is what counts."""
    runs = [(title, dualview_scores, DualViewVariant(), params.dualview.schedule, change)
            for title, change in FEW_SHOT_CHANGES.items()]
    return itertools.product(DIVISIONS[:2], (1, 16), runs)


SEARCHES = {"base_to_new": base_to_new, "few_shot": few_shot}


def runs(params, search):
    """Yield what is searched, as `validation.searched` takes it."""
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    for name in params.datasets:
        packs = divisions(FeaturePack.load(params.artefact("features", name)))
        names = packs[DIVISIONS[0]].class_names
        sentences = load_descriptions(params, name, names).texts
        texts = hand_crafted_texts(names, params.datasets[name].template, sentences)
        hard = {division: {view: encode_descriptions(encoder, of, pack.class_names)
                           for view, of in texts.items()} for division, pack in packs.items()}
        for division, shots, (title, scores, variant, schedule, change) in search(params):
            setting = Setting("base_to_new", variant, shots)
            yield ({"dataset": name, "division": division, "shots": shots, "change": title},
                   partial(scores, params, packs[division], backbone, encoder, hard[division],
                           *changed(setting, schedule, change)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=SEARCHES)
    protocol = parser.parse_args().protocol
    found = searched(Path(__file__).with_name(f"choose_dualview_{protocol}.csv"),
                     runs(load_params(), SEARCHES[protocol]))
    means = base_to_new_means(found, ["shots", "change", "a"])
    print(means.sort_values("H", ascending=False).round(1).to_string())
