"""What the searches share: they score on validation images, never on test images.

And other orders of a dataset's classes, with texts for them.
"""

import pandas as pd
import torch

from promptstudy.datasets.packs import FeaturePack
from promptstudy.datasets.splits import SPLITS
from promptstudy.datasets.subsets import base_and_new
from promptstudy.metrics import top1
from promptstudy.params import Schedule
from promptstudy.plans import training_draws
from promptstudy.results import harmonic_mean


def halved(params, pack, setting):
    """Return the draws [R, N] of a setting and `{subset: slice of the classes}` to score it on.

    Few-shot that is `all`. For base-to-new the base classes are halved once more: draws are of the
    first half, `base`, and the second is `new`, so that no choice ever sees a new class.
    """
    draws, names = training_draws(params, pack, setting)
    if setting.protocol == "few_shot":
        return draws, {"all": slice(0, len(names))}
    first, second = (len(half) for half in base_and_new(len(names)))
    draws = torch.stack([draw[pack.train.labels[draw] < first] for draw in draws])
    return draws, {"base": slice(0, first), "new": slice(first, first + second)}


def divisions(pack):
    """Return `{name: pack}`, the base classes put in four orders, so that `halved` differs.

    With few classes what a half happens to hold decides much: see `orders`. New classes stay where
    they are, behind the base ones.
    """
    base, new = base_and_new(len(pack.class_names))
    return {name: reordered(pack, order + new) for name, order in orders(base).items()}


def orders(labels):
    """Return `{name: labels}` in four orders, which have other labels in their first halves.

    Each label is in the first half of two orders, or of one or three if their number is odd.
    """
    half = (len(labels) + 1) // 2
    return {"first half": labels, "second half": labels[half:] + labels[:half],
            "even": labels[::2] + labels[1::2], "odd": labels[1::2] + labels[::2]}


def reordered(pack, order):
    """Return a pack with its classes in another order: class `order[i]` becomes class i."""
    place = torch.tensor(order).argsort()
    tensors = pack._tensors | {f"{split}.labels": place[getattr(pack, split).labels]
                              for split in SPLITS}
    return FeaturePack(tensors, pack.provenance | {
        "class_names": [pack.class_names[label] for label in order]})


def told(task, sentences):
    """Give a task its class descriptions, `{class name: [sentence, ...]}`, instead of a file's.

    A language model's for another class (`shuffled`) are drawn from the same ones.
    """
    task.cached["sentences",] = sentences
    for source in ("llm", "shuffled"):  # AAPE's names for them
        task.cached["references", source] = sentences
    return task


def scored(pack, classes, predict):
    """Return mean and deviation over seeds of the accuracy on validation images of some classes.

    predict(images) returns the predictions [R, n], counted from the first of the classes, for the
    validation images that a mask chooses.
    """
    images = (pack.val.labels >= classes.start) & (pack.val.labels < classes.stop)
    accuracy = top1(predict(images), pack.val.labels[images] - classes.start)
    return {"val_accuracy": round(accuracy.mean().item(), 2),
            "std": round(accuracy.std(correction=0).item(), 2)}


def changed(setting, schedule, change):
    """Return a setting and a schedule with the values of `change` in their places."""
    in_schedule = {key: value for key, value in change.items() if key in Schedule.model_fields}
    in_variant = {key: value for key, value in change.items() if key not in in_schedule}
    return (setting._replace(variant=setting.variant.model_copy(update=in_variant)),
            schedule.model_copy(update=in_schedule))


def searched(path, runs):
    """Return the table of all `runs`, written to the CSV at `path` after each of them.

    runs: pairs of `{column: value}`, which names a run, and a function that returns its rows; what
    stands at `path` already is not done again.
    """
    tables = [pd.read_csv(path)] if path.exists() else []
    for key, score in runs:
        if any((table[list(key)] == pd.Series(key)).all(axis=1).any() for table in tables):
            continue
        rows = pd.DataFrame([{**key, **row} for row in score()])
        print(rows.to_string(header=False, index=False), flush=True)
        tables.append(rows)
        pd.concat(tables).to_csv(path, index=False)
    return pd.concat(tables)


def base_to_new_means(table, index):
    """Return base, new and their H for every `index` of a table's rows, as means over datasets."""
    rows = table[table["subset"] != "all"]
    means = rows.pivot_table(index=index, columns="subset", values="val_accuracy", sort=False)
    return means.assign(H=harmonic_mean(means["base"], means["new"]))
