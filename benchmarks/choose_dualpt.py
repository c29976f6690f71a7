"""How DuAl-PT's settings were chosen: on validation images, never on test images.

    python benchmarks/choose_dualpt.py

Trains DuAl-PT on the few-shot draws of the smallest dataset, as `params.yaml` has it but with the
learning rate that the search began with, and then with something changed. Each is scored on the
validation images: all classes for few-shot, base and new classes for base-to-new. Test images are
not looked at. Needs the features and describe stages (`dvc repro features describe`), takes about
five minutes on two cores, and writes benchmarks/choose_dualpt.csv.
"""

import itertools
from pathlib import Path

import pandas as pd
from torch.nn import functional as F

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.descriptions import encode_descriptions
from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.packs import FeaturePack
from promptstudy.evaluation import top1
from promptstudy.llm.descriptions import load_descriptions
from promptstudy.methods.dualpt import DuAlPT
from promptstudy.params import ContextParams, Schedule, Setting, load_params
from promptstudy.training import train, training_draws

DATASETS = ("dtd10",)
START = {"lr": 0.07}
SHOTS = (1, 16)
CHANGES = {
    "none": {},
    "lr 0.03": {"lr": 0.03}, "lr 0.15": {"lr": 0.15},
    "N 4, half the steps": {"n_prompts": 4, "max_steps": 60},
    "M16": {"context": ContextParams(n_ctx=16)},
    "M4-words": {"context": ContextParams(n_ctx=4, init="a photo of a")},
    "lambda 0": {"lambda_text": 0.0}, "lambda 0.3": {"lambda_text": 0.3},
    "lambda 1": {"lambda_text": 1.0}, "lambda 2": {"lambda_text": 2.0},
    "lambda 4": {"lambda_text": 4.0},
    "text mean": {"text_align": "mean"}, "text infonce": {"text_align": "infonce"},
    "no local": {"alpha": 0.0, "beta_infer": 0.0}}


def validation_accuracy(params, pack, backbone, encoder, descriptions, setting, schedule):
    """Return the validation accuracies [R] of one setting, {subset: accuracy}.

    Subsets are `seen`, over the classes it was trained on, and `new` for base-to-new.
    """
    draws, names = training_draws(params, pack, setting)
    method = DuAlPT(encoder, names, setting.variant, backbone.logit_scale, seeds=params.seeds,
                    train_local=pack.train.local, descriptions=descriptions.of(slice(len(names))))
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    features, local = (F.normalize(part, dim=-1) for part in (pack.val.features, pack.val.local))
    seen, labels = pack.val.labels < len(names), pack.val.labels
    accuracy = {"seen": top1(method.predict(features[seen], local[seen]), labels[seen])}
    if setting.protocol == "base_to_new":
        other = DuAlPT(encoder, pack.class_names[len(names):], setting.variant,
                       backbone.logit_scale, contexts=method.contexts.detach())
        accuracy["new"] = top1(other.predict(features[~seen], local[~seen]),
                               labels[~seen] - len(names))
    return accuracy


def changed(setting, schedule, change):
    """Return a setting and a schedule with the values of `change` in their places."""
    in_schedule = {key: value for key, value in change.items() if key in Schedule.model_fields}
    in_variant = {key: value for key, value in change.items() if key not in in_schedule}
    return (setting._replace(variant=setting.variant.model_copy(update=in_variant)),
            schedule.model_copy(update=in_schedule))


def main():
    params = load_params()
    block = params.dualpt
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    settings = [Setting("few_shot", block.few_shot, shots) for shots in SHOTS]
    settings.append(Setting("base_to_new", block.base_to_new, params.base_to_new_shots))
    rows = []
    for name, (title, change) in itertools.product(DATASETS, CHANGES.items()):
        pack = FeaturePack.load(params.artefact("features", name))
        texts = load_descriptions(params, name, pack.class_names).texts
        descriptions = encode_descriptions(encoder, texts, pack.class_names)
        for setting in settings:
            accuracies = validation_accuracy(params, pack, backbone, encoder, descriptions,
                                             *changed(setting, block.schedule, START | change))
            for subset, accuracy in accuracies.items():
                rows.append({"dataset": name, "protocol": setting.protocol, "shots": setting.shots,
                             "subset": subset, "change": title,
                             "val_accuracy": round(accuracy.mean().item(), 2),
                             "std": round(accuracy.std(correction=0).item(), 2)})
                print(*rows[-1].values(), sep="\t", flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    means = table.pivot_table(index="change", columns=["protocol", "shots", "subset"],
                              values="val_accuracy", sort=False)
    print(means.round(1))


if __name__ == "__main__":
    main()
