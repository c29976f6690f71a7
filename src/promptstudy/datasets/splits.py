"""Which image is which class: CoOp's split files, a user's own folders, few-shot draws, halves."""

import json
import math
import random
import warnings
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

SPLITS = ("train", "val", "test")
SPLIT_SEED = 1


class DatasetError(ValueError):
    """A dataset cannot be used; the message names the file, key or class and what to do."""


class Item(NamedTuple):
    """One image: its path relative to the dataset's images folder, and its class."""

    path: str
    label: int
    class_name: str


class Dataset(NamedTuple):
    """The items of the three splits and the class names in label order (`val` may be empty)."""

    name: str
    class_names: list[str]
    template: str
    train: list[Item]
    val: list[Item]
    test: list[Item]


def image_folder(params, name):
    """Return the folder that the paths of dataset `name` are relative to.

    Raises `DatasetError` when `data_root` is not set, or it or the folder does not exist.
    """
    block = "captioned" if name in params.captioned else "datasets"
    folder = data_root(params) / getattr(params, block)[name].images
    if not folder.is_dir():
        raise DatasetError(f"{block}.{name}.images: the folder {folder} does not exist; correct "
                           "it in params.yaml (it is relative to data_root)")
    return folder


def load_dataset(params, name):
    """Return the `Dataset` called `name` of `params`.

    Its items come from `datasets.<name>.split`, one of CoOp's `split_zhou_*.json` files read as it
    is, or, without one, from the images folder itself (see `read_folder`). Underscores in class
    names become spaces. Raises `DatasetError` for missing folders and files, a split file of
    another shape, and classes that are ambiguous, not numbered 0 to C-1 or without training images.
    """
    settings = params.datasets[name]
    folder = image_folder(params, name)
    if settings.split is None:
        source, splits = folder, read_folder(folder)
    else:
        source = (params.root if settings.split.startswith("./") else data_root(params))
        source = source / settings.split
        splits = _read_split_file(source, f"datasets.{name}.split")
    splits = {split: [Item(path, label, class_name.replace("_", " "))
                      for path, label, class_name in items] for split, items in splits.items()}
    class_names = _checked_class_names(splits, source)
    return Dataset(name, class_names, settings.template, **splits)


def read_folder(folder):
    """Divide a folder that holds one folder of images a class; labels follow the sorted names.

    A folder of `train`, `val` (optional) and `test`, each with one folder a class, is taken as it
    is. Otherwise every class is shuffled and divided 50/20/30, as CoOp's `read_and_split_data`
    does, by one generator of seed 1 over the sorted names of the files.
    Returns `{"train": [Item, ...], "val": ..., "test": ...}`; raises `DatasetError` for a class
    with too few images.
    """
    names = _folder_names(folder)
    if {"train", "test"} <= set(names) <= set(SPLITS):
        classes = _folder_names(folder / "train")
        splits = {split: [] for split in SPLITS}
        for split in names:
            for class_name in _folder_names(folder / split):
                if class_name not in classes:
                    raise DatasetError(f"{folder / split}: class {class_name!r} has no folder in "
                                       f"{folder / 'train'}; add its training images there")
                splits[split] += [
                    Item(f"{split}/{class_name}/{image}", classes.index(class_name), class_name)
                    for image in _image_names(folder / split / class_name)]
        return splits
    generator = random.Random(SPLIT_SEED)
    splits = {split: [] for split in SPLITS}
    for label, class_name in enumerate(names):
        images = _image_names(folder / class_name)
        items = [Item(f"{class_name}/{image}", label, class_name) for image in images]
        generator.shuffle(items)
        n_train, n_val = round(0.5 * len(items)), round(0.2 * len(items))
        if n_val == 0 or n_train + n_val == len(items):
            raise DatasetError(
                f"{folder / class_name}: class {class_name!r} has {len(items)} images, dividing "
                "them 50/20/30 needs at least 4; add some, or divide the images yourself into "
                "folders train, val (optional) and test with one folder a class in each")
        splits["train"] += items[:n_train]
        splits["val"] += items[n_train:n_train + n_val]
        splits["test"] += items[n_train + n_val:]
    return splits


def few_shot_draw(train_labels, val_labels, shots, seed):
    """Draw the few-shot images of one run exactly as CoOp's code does.

    `random.seed(seed)`, then over the training classes in order of first appearance
    `random.sample(items, shots)`, and the same for validation with min(shots, 4), continuing the
    same random numbers; a class with fewer images gives all it has. The draw is over all classes:
    base-to-new runs keep the base classes of it.
    Returns two int64 tensors of indices into the two lists. Warns when a class is short of images.
    """
    generator = random.Random(seed)
    train, short = _draw(train_labels, shots, generator)
    val, _ = _draw(val_labels, min(shots, 4), generator)
    if short:
        listing = ", ".join(f"label {label}: {count}" for label, count in short.items())
        warnings.warn(f"fewer than {shots} training images, so all of them are used, as CoOp does: "
                      f"{listing}", stacklevel=2)
    return train, val


def base_and_new(n_classes):
    """Return `(base, new)` labels: the first ceil(C/2) in label order, and the rest."""
    n_base = math.ceil(n_classes / 2)
    return list(range(n_base)), list(range(n_base, n_classes))


def _draw(labels, shots, generator):
    by_label = defaultdict(list)
    for index, label in enumerate(torch.as_tensor(labels).tolist()):
        by_label[label].append(index)
    chosen, short = [], {}
    for label, indices in by_label.items():
        if len(indices) < shots:
            short[label] = len(indices)
        # random.sample also shuffles, and CoOp leaves the order of a short class alone
        chosen += indices if len(indices) < shots else generator.sample(indices, shots)
    return torch.tensor(chosen, dtype=torch.int64), short


def data_root(params):
    """Return the folder of images that `data_root` names; raises `DatasetError`."""
    if params.data_root is None:
        raise DatasetError("data_root is not set in params.yaml; set it to the folder that holds "
                           "the datasets' image folders")
    root = params.root / params.data_root.expanduser()
    if not root.is_dir():
        raise DatasetError(f"data_root: the folder {root} does not exist; correct it in "
                           "params.yaml, or remove the key to use the stored feature packs")
    return root


def _folder_names(folder):
    return sorted(path.name for path in folder.iterdir()
                  if path.is_dir() and not path.name.startswith("."))


def _image_names(folder):
    """Sorted names of the image files of a folder; a warning says how many others there are."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    images = [name for name in names if name.lower().endswith(IMG_EXTENSIONS)]
    if len(images) < len(names):
        warnings.warn(f"{folder}: {len(names) - len(images)} entries are left out because their "
                      f"names do not end in {', '.join(IMG_EXTENSIONS)}", stacklevel=2)
    return images


def _read_split_file(path, key):
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{key}: the split file {path} does not exist; correct the key in "
                           "params.yaml, or remove it to divide the images folder by its "
                           "subfolders") from None
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
    return {split: content[split] for split in SPLITS}


def _checked_class_names(splits, source):
    """Return the class names in label order, or raise `DatasetError` (see `load_dataset`)."""
    names, labels = {}, {}
    for item in (item for split in SPLITS for item in splits[split]):
        known = names.setdefault(item.label, item.class_name)
        if known != item.class_name:
            raise DatasetError(f"{source}: label {item.label} has two class names, {known!r} and "
                               f"{item.class_name!r}; give each class its own label")
        label = labels.setdefault(" ".join(item.class_name.lower().split()), item.label)
        if label != item.label:
            raise DatasetError(f"{source}: two classes have one name, {names[label]!r} (label "
                               f"{label}) and {item.class_name!r} (label {item.label}), which CLIP "
                               "cannot tell apart; rename or join them")
    if not names:
        raise DatasetError(f"{source}: no images; it needs one folder a class with image files, "
                           "or a split file that lists them")
    if sorted(names) != list(range(len(names))):
        missing = sorted(set(range(len(names))) - set(names))
        raise DatasetError(f"{source}: the labels of {len(names)} classes must be 0 to "
                           f"{len(names) - 1}; {missing} are missing")
    trained = {item.label for item in splits["train"]}
    untrained = [names[label] for label in sorted(set(names) - trained)]
    if untrained:
        raise DatasetError(f"{source}: no training images for {', '.join(map(repr, untrained))}; "
                           "add some or remove the class")
    if not splits["test"]:
        raise DatasetError(f"{source}: no test images; add some")
    return [names[label] for label in range(len(names))]
