"""How the dual-view method's settings and KgCoOp's weight were chosen: on validation images.

    python benchmarks/choose_dualview.py

Trains the dual-view method on each dataset with one thing changed at a time, and KgCoOp with
several weights. The base classes are halved once more: trained on the first half, scored on the
validation images of both, so that no choice ever sees a new class. Test images are not looked at.
Every trained dual-view method is scored with several weights of the hand-crafted view (a).

Chosen is the highest H that costs at most 3 points of base accuracy against training without
information and augmentation (CE only): the defaults, 69.1. inter_mix has an H of 69.7, but costs 6.
Of KgCoOp's weights 0.5 is best, 69.3, where its paper has 8.

Needs the features and describe stages (`dvc repro features describe`) and takes about a quarter of
an hour on two cores. What stands in benchmarks/choose_dualview.csv already is not done again.
"""

from functools import partial
from pathlib import Path

from torch.nn import functional as F
from validation import base_to_new_means, changed, halved, scored, searched

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.descriptions import encode_descriptions, hand_crafted_texts
from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.packs import FeaturePack
from promptstudy.llm.descriptions import load_descriptions
from promptstudy.methods.augmentation import Support, image_prototypes, stand_ins
from promptstudy.methods.coop import CoOp
from promptstudy.methods.dualview import DualView
from promptstudy.methods.kgcoop import KgCoOp
from promptstudy.params import (
    ContextParams,
    DualViewVariant,
    KgCoOpVariant,
    Setting,
    load_params,
)
from promptstudy.training import train

WORDS = ContextParams(n_ctx=4, init="a photo of a")
ENSEMBLES = (0.0, 0.3, 0.5, 0.7)
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


def runs(params):
    """Yield what is searched, as `validation.searched` takes it."""
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    changes = [(title, dualview_scores, DualViewVariant(context=WORDS), params.dualview.schedule,
                change) for title, change in CHANGES.items()]
    changes += [(f"KgCoOp {weight:g}", kgcoop_scores, KgCoOpVariant(context=WORDS),
                 params.kgcoop.schedule, {"weight": weight}) for weight in WEIGHTS]
    for name in params.datasets:
        pack = FeaturePack.load(params.artefact("features", name))
        sentences = load_descriptions(params, name, pack.class_names).texts
        texts = hand_crafted_texts(pack.class_names, params.datasets[name].template, sentences)
        hard = {view: encode_descriptions(encoder, of, pack.class_names)
                for view, of in texts.items()}
        for title, scores, variant, schedule, change in changes:
            setting = Setting("base_to_new", variant, params.base_to_new_shots)
            yield {"dataset": name, "change": title}, partial(
                scores, params, pack, backbone, encoder, hard,
                *changed(setting, schedule, change))


if __name__ == "__main__":
    found = searched(Path(__file__).with_suffix(".csv"), runs(load_params()))
    means = base_to_new_means(found, ["change", "a"]).sort_values("H", ascending=False)
    print(means.round(1).to_string())
