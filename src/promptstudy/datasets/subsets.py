"""Which images and classes a protocol uses: few-shot draws, base and new, a version's classes."""

from __future__ import annotations

import math
import random
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ..errors import DatasetError

if TYPE_CHECKING:
    from torch import Tensor


def few_shot_draw(train_labels: Any, val_labels: Any, shots: int,
                  seed: int) -> tuple[Tensor, Tensor]:
    """Draw the few-shot images of one run exactly as CoOp's code does.

    `random.seed(seed)`, then over the training classes in order of first appearance
    `random.sample(items, shots)`, and the same for validation with min(shots, 4), continuing the
    same random numbers; a class with fewer images gives all it has. The draw is over all classes:
    base-to-new runs keep its base classes.
    Returns two int64 tensors of indices into the two lists. Warns if a class has too few images.
    """
    import torch
    train_labels, val_labels = (torch.as_tensor(labels).tolist()
                                for labels in (train_labels, val_labels))
    generator = random.Random(seed)
    train, short = draw_per_class(train_labels, shots, generator)
    val, _ = draw_per_class(val_labels, min(shots, 4), generator)
    if short:
        listing = ", ".join(f"label {label}: {count}" for label, count in short.items())
        warnings.warn(f"fewer than {shots} training images, so all of them are used, as CoOp does: "
                      f"{listing}", stacklevel=2)
    return torch.tensor(train, dtype=torch.int64), torch.tensor(val, dtype=torch.int64)


def base_and_new(n_classes: int) -> tuple[list[int], list[int]]:
    """Return `(base, new)` labels: the first ceil(C/2) in label order, and the rest."""
    n_base = math.ceil(n_classes / 2)
    return list(range(n_base)), list(range(n_base, n_classes))


def draw_per_class(labels: list[int], shots: int,
                   generator: random.Random) -> tuple[list[int], dict[int, int]]:
    """Return the indices of the drawn images, and `{label: count}` of the classes with too few."""
    by_label = defaultdict(list)
    for index, label in enumerate(labels):
        by_label[label].append(index)
    chosen, short = [], {}
    for label, indices in by_label.items():
        if len(indices) < shots:
            short[label] = len(indices)
        # random.sample also shuffles, and CoOp keeps the order of a class with too few images
        chosen += indices if len(indices) < shots else generator.sample(indices, shots)
    return chosen, short


def labels_in(source_names: list[str], name: str, class_names: list[str],
              imagenet_labels: list[int] | None = None) -> list[int]:
    """Return the source's label of each class of its shifted version `name`.

    ImageNet's own versions carry them (see `Dataset`). Raises `DatasetError` listing the classes
    that the source lacks or has twice (the latter is allowed in a version with all classes).
    """
    if imagenet_labels:
        return imagenet_labels
    if class_names == source_names:
        return list(range(len(source_names)))
    wrong = [class_name for class_name in class_names if source_names.count(class_name) != 1]
    if wrong:
        raise DatasetError(f"transfer.domain.{name}: its classes must be the source's, which "
                           f"does not have {', '.join(map(repr, wrong))} (or has two of that name);"
                           " rename or remove them")
    return [source_names.index(class_name) for class_name in class_names]
