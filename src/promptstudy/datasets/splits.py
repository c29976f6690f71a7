"""Which image is which class: CoOp's split files, a user's own folders, few-shot draws, halves.

Importing torch takes two seconds, so `check` reads lists without it.
"""

import random
import warnings
from pathlib import Path

from ..errors import DatasetError
from ..params import Params
from .folders import read_folder
from .items import SPLIT_SEED, SPLITS, Dataset, Item, read_split_file
from .layouts import LAYOUTS, read_layout
from .paths import path_fault, text_fault
from .root import check_readable, data_root
from .subsets import draw_per_class


def image_folder(params: Params, name: str) -> Path:
    """Return the folder that the paths of dataset `name` are relative to.

    For shifts made from the source's test images, it is the source's. Raises `DatasetError` when
    `data_root` is not set, or when it or the folder does not exist.
    """
    settings = params.captioned.get(name) or params.every_dataset[name]
    layout = LAYOUTS.get(getattr(settings, "layout", None) or "")
    if shift_of(params, name):
        return image_folder(params, params.transfer.source)
    if layout:
        folder, key = data_root(params) / layout.folder / layout.images, "layout"
        todo = f"`python -m promptstudy doctor {name}` says where to get it"
    else:
        folder, key = data_root(params) / settings.images, "images"
        todo = "correct it in params.yaml (it is relative to data_root)"
    check_readable(folder)
    if not folder.is_dir():
        raise DatasetError(f"{params.key_of(name)}.{key}: the folder {folder} does not exist; "
                           f"{todo}")
    return folder


def shift_of(params: Params, name: str) -> str | None:
    """Return which shift of the source's test images dataset `name` is, or None."""
    return name in params.transfer.domain and params.transfer.domain[name].shift or None


def load_dataset(params: Params, name: str) -> Dataset:
    """Return the `Dataset` `name` of `params`; shifted versions have only test images.

    Its items come from its `layout`, one of CoOp's (see `read_layout`), from
    `datasets.<name>.split`, a file in the format of CoOp's `split_zhou_*.json`, or, without
    either, from the images folder itself (see `read_folder`). Underscores in class names become
    spaces. Raises `DatasetError` for missing folders and files, malformed files, and classes that
    are ambiguous, not numbered 0 to C-1 or without training images.
    """
    if shift_of(params, name):
        return _drawn(load_dataset(params, params.transfer.source), name, params.transfer.per_class)
    settings, folder = params.every_dataset[name], image_folder(params, name)
    layout, test_only = LAYOUTS.get(settings.layout or ""), name in params.transfer.domain
    if layout:
        source, lists = folder, read_layout(data_root(params), layout)
    elif settings.split is None:
        source, lists = folder, read_folder(folder, test_only)
    else:
        source = (params.root if settings.split.startswith("./") else data_root(params))
        source = source / settings.split
        lists = read_split_file(source, f"{params.key_of(name)}.split")
    splits = {split: [Item(path, label, class_name.replace("_", " "))
                      for path, label, class_name in lists[split]] for split in SPLITS}
    if test_only:
        splits |= {"train": [], "val": []}
        home = params.transfer.source
        if "imagenet_labels" in lists and params.datasets[home].layout != "imagenet":
            raise DatasetError(f"transfer.domain.{name}: is a version of ImageNet, but "
                               f"transfer.source = {home!r} is not ImageNet; correct one")
    check_paths(splits, source)
    class_names = _checked_class_names(splits, source, test_only, published=bool(layout))
    return Dataset(name, class_names, params.template_of(name), **splits, published=bool(layout),
                   imagenet_labels=lists.get("imagenet_labels"))


def _drawn(source, name, per_class):
    """Return the dataset `name`: a fixed draw of `per_class` test images per class, or all."""
    test = source.test
    if per_class:
        labels = [item.label for item in test]
        drawn, _ = draw_per_class(labels, per_class, random.Random(SPLIT_SEED))
        test = [test[index] for index in drawn]
    return Dataset(name, source.class_names, source.template, [], [], test)


def check_paths(splits: dict[str, list[Item]], source: Path) -> None:
    """Raise `DatasetError`, naming `source`, for an item whose path or class name is unusable."""
    for split, items in splits.items():
        for item in items:
            if fault := path_fault(item.path):
                raise DatasetError(f"{source}: in {split}, class {item.class_name!r}, the path "
                                   f"{item.path!r} {fault}")
            if not item.class_name.strip():
                raise DatasetError(f"{source}: in {split}, the image {item.path!r} has a class "
                                   "without a name; give it one")
            if fault := text_fault(item.class_name):
                raise DatasetError(f"{source}: in {split}, the class name {item.class_name!r} "
                                   f"{fault}")


def _checked_class_names(splits, source, test_only, published):
    """Return the class names in label order, or raise `DatasetError` (see `load_dataset`).

    In ImageNet two pairs of classes share a name; CoOp keeps them, so this only warns.
    """
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    for item in (item for split in SPLITS for item in splits[split]):
        known = names.setdefault(item.label, item.class_name)
        if known != item.class_name:
            raise DatasetError(f"{source}: label {item.label} has two class names, {known!r} and "
                               f"{item.class_name!r}; give each class its own label")
    if not names:
        raise DatasetError(f"{source}: no images; it needs one folder per class with image files, "
                           "or a split file that lists them")
    if sorted(names) != list(range(len(names))):
        missing = sorted(set(range(len(names))) - set(names))
        wrong = min(names) if min(names) < 0 else max(names)
        raise DatasetError(f"{source}: the labels of {len(names)} classes must be 0 to "
                           f"{len(names) - 1}; {str(missing[:10])[:-1]}"
                           f"{', ...' * (len(missing) > 10)}] are missing, and {names[wrong]!r} "
                           f"has the label {wrong}")
    for label, name in names.items():
        first = labels.setdefault(" ".join(name.lower().split()), label)
        if first != label:
            problem = (f"{source}: two classes share a name, {names[first]!r} (label {first}) and "
                       f"{name!r} (label {label}), which CLIP cannot tell apart")
            if not published:
                raise DatasetError(f"{problem}; rename or merge them")
            warnings.warn(f"{problem}; they are kept as published", stacklevel=2)
    trained = {item.label for item in splits["train"]}
    untrained = [names[label] for label in sorted(set(names) - trained)]
    if untrained and not test_only:
        raise DatasetError(f"{source}: no training images for {', '.join(map(repr, untrained))}; "
                           "add some or remove the class")
    if not splits["test"]:
        raise DatasetError(f"{source}: no test images; add some")
    return [names[label] for label in range(len(names))]
