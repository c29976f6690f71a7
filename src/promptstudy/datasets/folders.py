"""Datasets with one folder per class: which folders and files count, and how to name splits."""

import os
import warnings
from collections import Counter
from pathlib import Path, PurePosixPath

from ..errors import DatasetError
from .items import SPLITS, Item, divide

# torchvision's list, copied because importing it imports torch
IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# left by systems and archivers beside a user's folders, in lower case; hidden ones count as well
LITTER = {"__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found",
          "system volume information"}
SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation"),
             "test": ("test", "testing")}
NAMED = 5  # how many left-out names a message lists


def read_folder(folder: Path, test_only: bool = False) -> dict[str, list[Item]]:
    """Divide a folder that holds one folder of images per class; labels follow the sorted names.

    A folder of `train`, `val` (optional) and `test` (see SPELLINGS), each with one folder per
    class, keeps its splits. Otherwise every class is divided 50/20/30 (see `divide`), over the
    sorted names of the files; or, with `test_only`, not divided at all.
    Returns `{"train": [Item, ...], "val": ..., "test": ...}`; raises `DatasetError` for a class
    with too few images and for folders of which only some are splits.
    """
    names = folder_names(folder)
    named = _split_folders(folder, names)
    if not named:
        items = folder_items(folder, _numbered(names))
        return {"train": [], "val": [], "test": items} if test_only else divide(items, folder)
    classes = _numbered(folder_names(folder / named["train"]))
    splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for split, name in named.items():
        found = folder_names(folder / name)
        for class_name in sorted(set(found) - set(classes)):
            raise DatasetError(f"{folder / name}: class {class_name!r} has no folder in "
                               f"{folder / named['train']}; add its training images there")
        splits[split] = folder_items(folder, {name: classes[name] for name in found}, name)
    return splits


def folder_names(folder: Path) -> list[str]:
    """Return the sorted names of a folder's subfolders; warn about those that are not classes."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    litter = [name for name in names if _is_litter(name)]
    if litter:
        warnings.warn(f"{folder}: left out, as they are not classes: {_listing(litter)}",
                      stacklevel=2)
    return [name for name in names if name not in litter]


def folder_items(root: Path, classes: dict[str, tuple[int, str]], inside: str = "") -> list[Item]:
    """Return the `Item`s of the class folders in `root/inside`, with paths relative to `root`.

    classes: {name of the folder: (label, class name)}. Warns about files that are not
    images. Raises `DatasetError` for a class without images.
    """
    items, others = [], []
    for name, (label, class_name) in classes.items():
        images, rest = image_names(root / inside / name)
        if not images:
            raise DatasetError(f"{root / inside / name}: it holds no images; add some or "
                               "remove the folder")
        items += [Item(str(PurePosixPath(inside, name, image)), label, class_name)
                  for image in images]
        others += rest
    if others:
        warnings.warn(f"{root / inside}: {len(others)} entries of its class folders are left out, "
                      f"as they are not image files: {_listing(others)} (images are files whose "
                      f"names end in {', '.join(IMG_EXTENSIONS)})", stacklevel=2)
    return items


def image_names(folder: Path) -> tuple[list[str], list[str]]:
    """Return `(images, others)`, the sorted names of a folder's image files and of all else in it.

    A pipe or a device is not an image, whatever its name: reading it would never end. A dangling
    link counts as an image, so that the image check reports it as missing.
    """
    images: list[str] = []
    others: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            is_image = entry.name.lower().endswith(IMG_EXTENSIONS) and entry.name[0] != "."
            is_file = entry.is_file() or entry.is_symlink() and not os.path.exists(entry.path)
            (images if is_image and is_file else others).append(entry.name)
    return sorted(images), sorted(others)


def _split_folders(folder, names):
    """Return `{split: name of its folder}` for a folder that is already divided, else None."""
    splits = {name: split for name in names for split in SPLITS
              if name.lower() in SPELLINGS[split]}
    found = list(splits.values())
    if set(splits) == set(names) and {"train", "test"} <= set(found) \
            and len(found) == len(set(found)):
        return {split: name for name, split in splits.items()}
    # a class may have such a name, but then its folder holds images and no folders
    divided = [name for name in splits if any(
        path.is_dir() and not _is_litter(path.name) for path in (folder / name).iterdir())]
    if divided:
        understood = "; ".join(f"{split}: {' or '.join(SPELLINGS[split])}" for split in SPLITS)
        raise DatasetError(
            f"{folder}: are {_listing(names)} splits or classes? There are folders in "
            f"{_listing(divided)}. Either all of them are splits, each once, val optional "
            f"(recognised names, in any case: {understood}), or all of them are "
            "classes with images in them; rename or move the others")
    return None


def _is_litter(name):
    return name.startswith(".") or name.lower() in LITTER


def _listing(names):
    """The first few names, each once."""
    counts = Counter(names)
    shown = [f"{name!r}" + (f" ({count} times)" if count > 1 else "")
             for name, count in list(counts.items())[:NAMED]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _numbered(names):
    return {name: (label, name) for label, name in enumerate(names)}
