"""The lists of a dataset: which images, of which classes, and CoOp's two ways of dividing them."""

import random
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from ..errors import DatasetError
from ..textfiles import parse_json, read_text

SPLITS = ("train", "val", "test")
SPLIT_SEED = 1  # CoOp's: it reproduces the published splits from the raw annotations


class Item(NamedTuple):
    """One image: its path relative to the dataset's images folder, and its class."""

    path: str
    label: int
    class_name: str


class Dataset(NamedTuple):
    """The items of the three splits and the class names in label order (`val` may be empty).

    `published` lists are used unchanged, even if something is odd about them. `imagenet_labels`
    says which class of ImageNet each class is, for its shifted versions.
    """

    name: str
    class_names: list[str]
    template: str
    train: list[Item]
    val: list[Item]
    test: list[Item]
    published: bool = False
    imagenet_labels: list[int] | None = None


def divide(items: list[Item], source: Path) -> dict[str, list[Item]]:
    """Divide every class 50/20/30, as CoOp does, into `{"train": [...], "val": ..., "test": ...}`.

    Classes are taken in order of first appearance and shuffled by one generator of seed 1. Raises
    `DatasetError`, naming `source`, for a class with too few images.
    """
    generator = random.Random(SPLIT_SEED)
    splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for group in _by_class(items):
        generator.shuffle(group)
        n_train, n_val = round(0.5 * len(group)), round(0.2 * len(group))
        if n_val == 0 or n_train + n_val == len(group):
            raise DatasetError(
                f"{source}: class {group[0].class_name!r} has {len(group)} images; dividing them "
                "50/20/30 needs at least 4. Add some, or divide the images yourself into folders "
                "train, val (optional) and test, each with one folder per class")
        splits["train"] += group[:n_train]
        splits["val"] += group[n_train:n_train + n_val]
        splits["test"] += group[n_train + n_val:]
    return splits


def divide_trainval(items: list[Item], source: Path) -> dict[str, list[Item]]:
    """Divide every class 80/20, as CoOp does: return `{"train": [...], "val": [...]}`.

    As `divide`, for datasets that come with test images of their own.
    """
    generator, train, val = random.Random(SPLIT_SEED), [], []
    for group in _by_class(items):
        generator.shuffle(group)
        n_val = round(0.2 * len(group))
        if n_val == 0:
            raise DatasetError(f"{source}: class {group[0].class_name!r} has {len(group)} training "
                               "images; dividing them 80/20 needs at least 3. Get the file again")
        val += group[:n_val]
        train += group[n_val:]
    return {"train": train, "val": val}


def read_split_file(path: Path, key: str) -> dict[str, list[Item]]:
    """Return the `Item`s of one of CoOp's split files, `{"train": [...], "val": ..., "test": ...}`.

    `key` is the key of params.yaml that names the file. Raises `DatasetError` for a missing or
    malformed file.
    """
    try:
        content = parse_json(read_text(path, DatasetError))
    except FileNotFoundError:
        raise DatasetError(f"{key}: the split file {path} does not exist; correct the key in "
                           "params.yaml, or remove it to divide the images folder by its "
                           "subfolders") from None
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{path} is not valid JSON ({error}); get the split file again") \
            from None
    shape = (f"{path} must look like CoOp's split files, "
             '{"train": [[path, label, class name], ...], "val": [...], "test": [...]}')
    if not isinstance(content, dict) or set(content) != set(SPLITS):
        raise DatasetError(f"{shape}; it does not have exactly these three keys")
    for split in SPLITS:
        if not isinstance(content[split], list):
            raise DatasetError(f"{shape}; {split!r} is not a list")
        for item in content[split]:
            if not (isinstance(item, list) and [type(value) for value in item] == [str, int, str]):
                raise DatasetError(f"{shape}; {split!r} holds {item!r}")
    return {split: [Item(*item) for item in content[split]] for split in SPLITS}


def _by_class(items):
    groups = defaultdict(list)
    for item in items:
        groups[item.label].append(item)
    return groups.values()
