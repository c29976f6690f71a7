"""How the pocket suite's training schedule was chosen: on validation images, never on test images.

    python benchmarks/choose_schedule.py

Trains CoOp on the few-shot draws of each dataset for several learning rates, and scores each on the
validation images: all classes for few-shot, base classes for base-to-new. New classes and test
images are not looked at. Needs the features stage (`dvc repro features`), takes about seven minutes
on two cores, and writes benchmarks/choose_schedule.csv.
"""

import itertools
import math
from pathlib import Path

import pandas as pd
from torch.nn import functional as F
from validation import scored

from promptstudy.clip.backbone import load_backbone
from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.packs import FeaturePack
from promptstudy.methods.coop import CoOp
from promptstudy.params import Setting, load_params
from promptstudy.plans import training_draws
from promptstudy.training import train

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1)
SHOTS = (1, 16)


def validation_accuracy(params, pack, backbone, encoder, setting, schedule):
    """Return the validation accuracy of one setting over the classes it was trained on."""
    draws, names = training_draws(params, pack, setting)
    method = CoOp(encoder, names, setting.variant, backbone.logit_scale, seeds=params.seeds)
    train(method, pack.train, draws, schedule, setting.shots, params.seeds)
    features = F.normalize(pack.val.features, dim=-1)
    return scored(pack, slice(0, len(names)), lambda images: method.predict(features[images]))


def main():
    params = load_params()
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    settings = [Setting("few_shot", params.coop.few_shot, shots) for shots in SHOTS]
    settings.append(Setting("base_to_new", params.coop.base_to_new, params.base_to_new_shots))
    rows = []
    for name, lr, setting in itertools.product(params.datasets, LEARNING_RATES, settings):
        pack = FeaturePack.load(params.artefact("features", name))
        schedule = params.coop.schedule.model_copy(update={"lr": lr})
        try:
            accuracy = validation_accuracy(params, pack, backbone, encoder, setting, schedule)
        except FloatingPointError:
            accuracy = {"val_accuracy": math.nan, "std": math.nan}
        rows.append({"dataset": name, "setting": setting.key, "lr": lr, **accuracy})
        print(*rows[-1].values(), sep="\t", flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    means = table.pivot_table(index="lr", columns="setting", values="val_accuracy")
    print(means.assign(mean=means.mean(axis=1)))  # the highest mean is in params.yaml


if __name__ == "__main__":
    main()
