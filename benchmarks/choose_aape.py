"""How AAPE's settings were chosen: on validation images, never on test images.

    python benchmarks/choose_aape.py [DATASET ...] [--changes "NAME|NAME|..."]

Trains AAPE on each dataset with one thing changed at a time, and scores it on the validation
images. Few-shot is scored over all classes. For base-to-new the base classes are halved once more:
trained on the first half, scored on both, so that no choice ever sees a new class. Test images are
not looked at.

Needs the features and describe stages (`dvc repro features describe`), takes about an hour on two
cores, and writes benchmarks/choose_aape.csv when all datasets and changes are run.
"""

import argparse
import itertools
from pathlib import Path

import pandas as pd
import torch
from torch.nn import functional as F

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.descriptions import encode_descriptions
from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.packs import FeaturePack
from promptstudy.datasets.splits import base_and_new
from promptstudy.evaluation import top1
from promptstudy.llm.descriptions import load_descriptions
from promptstudy.methods.aape import Classifier
from promptstudy.params import AAPEVariant, Schedule, Setting, load_params
from promptstudy.results import harmonic_mean
from promptstudy.training import train, training_draws

START = {"lr": 0.01}  # what changes are made to
CHANGES = {
    "none": {}, "lr 0.003": {"lr": 0.003}, "lr 0.03": {"lr": 0.03}, "lr 0.1": {"lr": 0.1},
    "mu 10": {"mu": 10.0}, "identity": {"agg_values": "identity"},
    "identity, mu 10": {"agg_values": "identity", "mu": 10.0}, "mean": {"aggregator": "mean"},
    "reward nce": {"reward": "nce"}, "reward clipscore": {"reward": "clipscore"},
    "lambda 0": {"lambda_distill": 0.0}, "lambda 5": {"lambda_distill": 5.0},
    "gen d/4": {"gen_hidden": 64}, "gen residual": {"gen_residual": True},
    "proj linear": {"proj": "linear"}}


def scores(params, pack, backbone, templates, prompts, setting, schedule):
    """Return rows of the validation accuracies of one setting: `subset`, mean and std.

    Subsets are `all`, or `base` and `new`, the halves of the base classes. `other_aape` is the
    accuracy when every image gets the AAPE of another: whether the classifier listens to it.
    """
    draws, names = training_draws(params, pack, setting)
    classes = {"all": range(len(names))}
    if setting.protocol == "base_to_new":
        classes = dict(zip(("base", "new"), base_and_new(len(names)), strict=True))
    trained = next(iter(classes.values()))
    draws = torch.stack([draw[pack.train.labels[draw] < len(trained)] for draw in draws])
    common = {"variant": setting.variant, "logit_scale": backbone.logit_scale,
              "seeds": params.seeds}
    method = Classifier(templates[trained], **common, prompts=prompts.of(trained))
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    rows = []
    for subset, labels in classes.items():
        images = torch.isin(pack.val.labels, torch.tensor(labels))
        scored = Classifier(templates[labels], **common).restore(method.state_dict())
        features, right = pack.val.features[images], pack.val.labels[images] - labels[0]
        features = F.normalize(features, dim=-1).expand(len(params.seeds), -1, -1)
        with torch.no_grad():
            aape = scored.generate(features)
            own, other = (top1(scored.logits(features, each).argmax(dim=-1), right)
                          for each in (aape, aape.roll(len(right) // 2, dims=1)))
        rows.append({"subset": subset, "val_accuracy": round(own.mean().item(), 2),
                     "std": round(own.std(correction=0).item(), 2),
                     "other_aape": round(other.mean().item(), 2)})
    return rows


def changed(setting, schedule, change):
    """Return a setting and a schedule with the values of `change` in their places."""
    in_schedule = {key: value for key, value in change.items() if key in Schedule.model_fields}
    in_variant = {key: value for key, value in change.items() if key not in in_schedule}
    return (setting._replace(variant=setting.variant.model_copy(update=in_variant)),
            schedule.model_copy(update=in_schedule))


def main():
    params = load_params()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*", default=list(params.datasets))
    parser.add_argument("--changes", default="|".join(CHANGES))
    args = parser.parse_args()
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    settings = [Setting("few_shot", AAPEVariant(), 1), Setting("few_shot", AAPEVariant(), 16),
                Setting("base_to_new", AAPEVariant(), 16)]
    rows = []
    for name in args.datasets:
        pack = FeaturePack.load(params.artefact("features", name))
        texts = load_descriptions(params, name, pack.class_names).texts
        prompts = encode_descriptions(encoder, texts, pack.class_names)
        templates = encoder.encode_templates(pack.class_names, [params.datasets[name].template])
        for setting, title in itertools.product(settings, args.changes.split("|")):
            variant, schedule = changed(setting, params.aape.schedule,
                                        START | CHANGES[title])
            for row in scores(params, pack, backbone, templates, prompts, variant, schedule):
                rows.append({"dataset": name, "protocol": setting.protocol, "shots": setting.shots,
                             "change": title, **row})
                print(*rows[-1].values(), sep="\t", flush=True)
    table = pd.DataFrame(rows)
    if args.datasets == list(params.datasets) and args.changes == "|".join(CHANGES):
        table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(summary(table).round(1))


def summary(table):
    """Return what is chosen by: means over datasets, and H of the base classes' halves."""
    means = table.pivot_table(index="change", values="val_accuracy", sort=False,
                              columns=["protocol", "shots", "subset"])
    few_shot, base_to_new = means["few_shot"], means["base_to_new"]
    return few_shot.droplevel("subset", axis=1).assign(few_shot=few_shot.mean(axis=1)).join(
        base_to_new.droplevel("shots", axis=1).assign(
            H=harmonic_mean(base_to_new[16, "base"], base_to_new[16, "new"])))


if __name__ == "__main__":
    main()
