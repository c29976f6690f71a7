"""How the pocket suite's training schedule was chosen: on validation images, never on test images.

    python benchmarks/choose_schedule.py

Trains CoOp on the few-shot draws of each dataset for several learning rates, and scores each on the
validation images: all classes for few-shot, base classes for base-to-new. New classes and test
images are not looked at. Needs the features stage (`dvc repro features`), takes about seven minutes
on two cores, and writes benchmarks/choose_schedule.csv.

Chosen is the highest mean over datasets and settings; 0.03 and 0.1 are level there (63.3 both), and
the lower one is kept.
"""

import itertools
import math
from pathlib import Path

import pandas as pd
import torch
from torch.nn import functional as F
from validation import scored

from promptstudy.errors import DivergedError
from promptstudy.methods import coop
from promptstudy.params import Setting, load_params
from promptstudy.plans import training_draws
from promptstudy.task import Task
from promptstudy.training import side_by_side, train

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1)
SHOTS = (1, 16)


def validation_accuracy(task, setting, lr):
    """Return a row: the validation accuracy of one setting over the classes it was trained on."""
    draws, names = training_draws(task.params, task.pack, setting)
    schedule = task.params.coop.schedule.model_copy(update={"lr": lr})
    model = coop.build(task, setting, names, draws)
    try:
        train(model, task.pack.train, draws, schedule, setting.shots, task.params.seeds)
        features = F.normalize(task.pack.val.features, dim=-1)
        accuracy = scored(task.pack, slice(0, len(names)),
                          lambda images: model.predict(features[images]))
    except DivergedError:
        accuracy = {"val_accuracy": math.nan, "std": math.nan}
    row = {"dataset": task.name, "setting": setting.key, "lr": lr, **accuracy}
    print(*row.values(), sep="\t", flush=True)
    return row


def main():
    params = load_params()
    settings = [Setting("few_shot", params.coop.few_shot, shots) for shots in SHOTS]
    settings.append(Setting("base_to_new", params.coop.base_to_new, params.base_to_new_shots))
    tasks = [Task.load(params, name) for name in params.datasets]
    runs = list(itertools.product(tasks, settings, LEARNING_RATES))
    table = pd.DataFrame(side_by_side(lambda run: validation_accuracy(*run), runs,
                                      torch.device("cpu")))
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    means = table.pivot_table(index="lr", columns="setting", values="val_accuracy")
    print(means.assign(mean=means.mean(axis=1)))


if __name__ == "__main__":
    main()
