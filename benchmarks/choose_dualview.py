"""How the dual-view method's settings and KgCoOp's weight were chosen: on validation images.

    python benchmarks/choose_dualview.py base_to_new|few_shot

Starts from cross-entropy alone and adds the parts: the two critics, Mixup, and combinations, with
other weights, bounds and schedules. The base classes are halved once more: trained on one half,
scored on the validation images of both, so that no choice ever sees a new class. Test images are
not looked at. Every trained method is scored with several weights a of the hand-crafted view, and
by the critic as well as by cosines.

Needs the features and describe stages (`dvc repro features describe`). What stands in
benchmarks/choose_dualview_*.csv already is not done again.

What was found, base to new, mean over Grocery and DTD-10, the divisions "first half" and "even"
and the seeds; validation H with a = 0.6:

    cross-entropy alone, no fusion                    73.3    (the best a by cosines)
    image critic                                      78.5    both critics                  78.1
    both critics, Mixup within, alpha 0.1             74.5    across, alpha 1               75.0
    across, alpha 0.4                                 75.9    across, alpha 0.1             76.6
    across, alpha 0.1, lr 0.01                        77.4    no Mixup, lr 0.01             78.6
    image critic, lr 0.01                             79.3

So the image critic is what helps, if it predicts; the views' critic adds nothing to it, and Mixup
takes away the less, the less it mixes. Both stay in the main variant because the paper has them,
with alpha = 0.1 and the lower learning rate. Of that variant a = 0.4 to 1 differ by half a point
only; at a = 1 the learned prompt has no part in the prediction. In few-shot, where Mixup's alpha =
1 is level with none on base classes (75.6, 76.1), nothing is changed: the critic predicts better
than cosines on Grocery (57.7 against 45.5 at 1 shot, 90.4 against 72.8 at 16) and by 1.4 and 1.9
points on DTD-10. KgCoOp's weight was
searched on an earlier pocket CLIP; 0.5 reaches 70.2 here, over all datasets and divisions.
choose_dualview_first.csv holds a search on that CLIP with prototypes in place of prompts.
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
from promptstudy.methods.augmentation import Support
from promptstudy.methods.coop import CoOp
from promptstudy.methods.dualview import DualView
from promptstudy.methods.kgcoop import KgCoOp
from promptstudy.params import ContextParams, Setting, load_params
from promptstudy.params.methods.dualview import DualViewVariant
from promptstudy.params.methods.kgcoop import KgCoOpVariant
from promptstudy.training import train

WORDS = ContextParams(n_ctx=4, init="a photo of a")
ENSEMBLES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
ALONE = {"lambda_mi": 0.0, "lambda_image": 0.0, "mixup": "none"}  # cross-entropy alone
IMAGES = {"lambda_image": 1.0}
VIEWS = {"lambda_mi": 1.0}
BOTH = IMAGES | VIEWS
CHANGES = {  # the most telling ones come first: the search can be stopped and taken up again
    "CE only": {},
    "image critic": IMAGES,
    "image critic, across": IMAGES | {"mixup": "across"},
    "both critics": BOTH,
    "both critics, across": BOTH | {"mixup": "across"},
    "within": {"mixup": "within"},
    "view critic": VIEWS,
    **{f"both critics, {way}, alpha {alpha:g}": BOTH | {"mixup": way, "mixup_alpha": alpha}
       for way in ("across", "within") for alpha in (0.1, 0.2, 0.4)},
    **{f"both critics, {title}lr 0.01": BOTH | change | {"lr": 0.01} for title, change in (
        ("", {}), ("across, ", {"mixup": "across"}),
        ("across, alpha 0.2, ", {"mixup": "across", "mixup_alpha": 0.2}),
        ("across, alpha 0.1, ", {"mixup": "across", "mixup_alpha": 0.1}))},
    "image critic, 100 steps": IMAGES | {"max_steps": 100},
    "image critic, lr 0.01": IMAGES | {"lr": 0.01},
    "image critic, mine": IMAGES | {"estimator": "mine"},
    "image critic, jsd": IMAGES | {"estimator": "jsd"},
    "image critic, within": IMAGES | {"mixup": "within"},
    "image critic, both": IMAGES | {"mixup": "both"},
    "both critics, both": BOTH | {"mixup": "both"},
    "across": {"mixup": "across"}, "both": {"mixup": "both"},
    "view critic, within": VIEWS | {"mixup": "within"},
    "image critic 0.3": {"lambda_image": 0.3}, "image critic 3": {"lambda_image": 3.0},
    "image critic, 600 steps": IMAGES | {"max_steps": 600},
    "image cosine": IMAGES | {"critic": "cosine"}, "view cosine": VIEWS | {"critic": "cosine"},
    "image critic, 8 templates": IMAGES | {"hard_view": "ensemble"},
    "image critic, descriptions": IMAGES | {"hard_view": "descriptions"}}
WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of KgCoOp
FEW_SHOT_CHANGES = ("both critics", "both critics, across", "both critics, across, alpha 0.2",
                    "both critics, across, alpha 0.1")
DATASETS = ("grocery", "dtd10")  # where the dual-view method's changes are searched
DIVISIONS = ("first half", "even")  # of the base classes, in which everything is searched
FURTHER = ("second half", "odd")  # and those for what is near the best
SHORTLIST = {"CE only", "KgCoOp 0.5"}


def dualview_scores(params, pack, backbone, encoder, hard, setting, schedule):
    """Return rows of one setting's validation accuracies: `by`, `a`, `subset`, mean and std."""
    draws, subsets = halved(params, pack, setting)
    base = next(iter(subsets.values()))
    hard, support = hard[setting.variant.hard_view], Support.of(pack.train, draws)
    method = DualView(encoder, pack.class_names[base], setting.variant, backbone.logit_scale,
                      seeds=params.seeds, hard=hard.of(base), support=support)
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    learned = {name: p.detach() for name, p in method.named_parameters() if p.requires_grad}
    features, rows = F.normalize(pack.val.features, dim=-1), []
    for subset, classes in subsets.items():
        trained = DualView(encoder, pack.class_names[classes], setting.variant,
                           backbone.logit_scale, contexts=learned["contexts"], seeds=params.seeds,
                           hard=hard.of(classes))
        trained.load_state_dict(learned, strict=False)
        for by, a in itertools.product(("cosine", "critic"), ENSEMBLES):
            if by == "critic" and "of_images" not in method.critics:
                continue
            variant = setting.variant.model_copy(update={"ensemble_a": a,
                                                         "critic_predicts": by == "critic"})
            accuracy = scored(pack, classes, lambda images, trained=trained, variant=variant:
                              trained.predict(features[images], variant))
            rows.append({"by": by, "a": a, "subset": subset, **accuracy})
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
        rows.append({"by": "cosine", "a": 0.0, "subset": subset, **accuracy})
    return rows


def base_to_new(params):
    """Yield `(division, shots, run, datasets)`; a run is a title and what it trains."""
    shots, words = params.base_to_new_shots, DualViewVariant(context=WORDS, **ALONE)
    everywhere = tuple(params.datasets)
    runs = [((title, dualview_scores, words, params.dualview.schedule, change), DATASETS)
            for title, change in CHANGES.items()]
    runs += [((f"KgCoOp {weight:g}", kgcoop_scores, KgCoOpVariant(context=WORDS),
               params.kgcoop.schedule, {"weight": weight}), everywhere) for weight in WEIGHTS]
    for run, datasets in runs:
        for division in DIVISIONS + FURTHER * (run[0] in SHORTLIST):
            yield division, shots, run, everywhere if run[0] in SHORTLIST else datasets


def few_shot(params):
    """The same for the few-shot settings, of which the base half's accuracy is what counts."""
    plain = DualViewVariant(**ALONE)
    for title, shots in itertools.product(FEW_SHOT_CHANGES, (1, 16)):
        for division in DIVISIONS:
            yield division, shots, (title, dualview_scores, plain, params.dualview.schedule,
                                    CHANGES[title]), DATASETS


SEARCHES = {"base_to_new": base_to_new, "few_shot": few_shot}


def runs(params, search):
    """Yield what is searched, as `validation.searched` takes it."""
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder, packs, hard = TextEncoder(backbone.model, backbone.tokenizer), {}, {}
    for name in params.datasets:
        packs[name] = divisions(FeaturePack.load(params.artefact("features", name)))
        names = packs[name][DIVISIONS[0]].class_names
        sentences = load_descriptions(params, name, names).texts
        texts = hand_crafted_texts(names, params.datasets[name].template, sentences)
        hard[name] = {division: {view: encode_descriptions(encoder, of, pack.class_names)
                                 for view, of in texts.items()}
                      for division, pack in packs[name].items()}
    for division, shots, (title, scores, variant, schedule, change), datasets in search(params):
        setting = Setting("base_to_new", variant, shots)
        for name in datasets:
            yield ({"dataset": name, "division": division, "shots": shots, "change": title},
                   partial(scores, params, packs[name][division], backbone, encoder,
                           hard[name][division], *changed(setting, schedule, change)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=SEARCHES)
    protocol = parser.parse_args().protocol
    found = searched(Path(__file__).with_name(f"choose_dualview_{protocol}.csv"),
                     runs(load_params(), SEARCHES[protocol]))
    means = base_to_new_means(found, ["shots", "change", "by", "a"])
    print(means.sort_values("H", ascending=False).round(1).to_string())
