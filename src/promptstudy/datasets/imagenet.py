"""ImageNet and its shifted versions, in folders named by WordNet id or by label.

Class names are those of CoOp's `classnames.txt`, lines `n01440764 tench`. Each function takes the
dataset's folder and returns the lists `{"train": [Item, ...], "val": ..., "test": ...}`; those of
the shifted versions also have "imagenet_labels", the label of each class in ImageNet. Raises
`DatasetError` naming the file or folder and the class.
"""

import re
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .annotations import AGAIN, read_lines
from .folders import folder_items, folder_names

N_VAL = 4  # images per class: the most that CoOp draws for validation


def imagenet(folder: Path) -> dict[str, Any]:
    """Train and val folders. The official val is the test set, as in CoOp.

    CoOp also selects models on these test images; here the last four training images of every class
    (in order of their names) are set aside for that.
    """
    images, names = folder / "images", class_names(folder)
    for split in ("train", "val"):
        _check(images / split, names)
    lists: dict[str, Any] = {"train": [], "val": []}
    classes = _labelled(names)
    every = folder_items(images, classes, "train")
    for wnid, (_, group) in zip(classes, groupby(every, lambda item: item.label), strict=True):
        items = list(group)
        if len(items) <= N_VAL:
            raise DatasetError(f"{images / 'train' / wnid}: {len(items)} images, at least "
                               f"{N_VAL + 1} are needed; unpack its archive again")
        lists["train"] += items[:-N_VAL]
        lists["val"] += items[-N_VAL:]
    return lists | {"test": folder_items(images, classes, "val")}


def all_classes(folder: Path, images: str) -> dict[str, Any]:
    """One folder for each class of ImageNet, named by WordNet id: ImageNet-Sketch."""
    names = class_names(folder)
    _check(folder / images, names)
    return _tested(folder / images, names, names)


def own_classes(folder: Path, images: str) -> dict[str, Any]:
    """Folders of some classes, which become the only ones: ImageNet-A and -R."""
    names = class_names(folder)
    found = _check(folder / images, names, whole=False)
    return _tested(folder / images, {wnid: names[wnid] for wnid in found}, names)


def numbered(folder: Path, images: str) -> dict[str, Any]:
    """Folders named by label, 0 to 999: ImageNetV2."""
    names = {str(label): name for label, name in enumerate(class_names(folder).values())}
    _check(folder / images, names)
    return _tested(folder / images, names, names)


def class_names(folder: Path) -> dict[str, str]:
    """Return `{WordNet id: class name}` in the order of ImageNet's labels.

    `classnames.txt` is in the dataset's folder, or else in ImageNet's beside it.
    """
    path = folder / "classnames.txt"
    if not path.is_file():
        path = folder.parent / "imagenet" / "classnames.txt"
    lines = read_lines(path)
    for number, (wnid, *name) in enumerate(lines, start=1):
        if not (re.fullmatch(r"n\d+", wnid) and name):
            raise DatasetError(f"{path}, line {number}: a WordNet id and a class name are expected "
                               f"(found {' '.join([wnid, *name])!r}); {AGAIN}")
    names = {wnid: " ".join(name) for wnid, *name in lines}
    if [wnid for wnid, *_ in lines] != sorted(names):
        raise DatasetError(f"{path}: its WordNet ids are not in order, unlike ImageNet's labels; "
                           f"{AGAIN}")
    return names


def _check(folder, names, whole=True):
    """Return the names of the folders in `folder`; raise `DatasetError` unless they are classes.

    whole: there must be a folder for every class.
    """
    found = folder_names(folder) if folder.is_dir() else []
    unknown, missing = sorted(set(found) - set(names)), sorted(set(names) - set(found))
    if not found:
        raise DatasetError(f"{folder}: one folder per class is expected, there is none (ImageNet's "
                           "own archive of val has none: torchvision.datasets.imagenet."
                           "parse_val_archive sorts its images)")
    if unknown:
        raise DatasetError(f"{folder}: {unknown[0]!r} is not a class of classnames.txt; remove the "
                           "folder, or get classnames.txt again")
    if whole and missing:
        raise DatasetError(f"{folder}: {len(missing)} classes of classnames.txt have no folder, "
                           f"e.g. {missing[0]!r}; unpack the archive again")
    return found


def _tested(folder, names, every):
    """Return the lists of a folder of test images only; `every` has all classes of ImageNet."""
    labels = {key: label for label, key in enumerate(every)}
    return {"train": [], "val": [], "test": folder_items(folder, _labelled(names)),
            "imagenet_labels": [labels[key] for key in names]}


def _labelled(names):
    return {key: (label, name) for label, (key, name) in enumerate(names.items())}
