"""The lists of CoOp's datasets, made from their raw annotations as in CoOp's code.

Each function takes the dataset's folder and returns `{"train": [Item, ...], "val": ..., "test":
...}`. Raises `DatasetError` naming the file, and in it the line, class or key that is wrong.
"""

import ast
import io
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..textfiles import decoded, package_folder
from .folders import folder_items, folder_names
from .items import Item, divide, divide_trainval

AGAIN = "get it again"


def folders(folder: Path, images: str, ignored: Sequence[str] = (),
            renamed: dict[str, str] | None = None) -> dict[str, Any]:
    """One folder per class, divided 50/20/30: Caltech101, DTD, EuroSAT and Food101.

    CoOp shuffled the files as its file system listed them; here they are sorted first. The counts
    are CoOp's, the choice of images is not.
    """
    names = [name for name in folder_names(folder / images) if name not in ignored]
    classes = {name: (label, (renamed or {}).get(name, name)) for label, name in enumerate(names)}
    return divide(folder_items(folder / images, classes), folder / images)


def oxford_pets(folder: Path) -> dict[str, Any]:
    """Lines `image class species breed`; the class name is that of the image, in lower case."""
    def read(name):
        path = folder / "annotations" / name
        return [Item(f"{image}.jpg", _number(label, path) - 1, image.rsplit("_", 1)[0].lower())
                for image, label, _, _ in read_lines(path, 4)]

    return _with_test(read("trainval.txt"), read("test.txt"), folder / "annotations/trainval.txt")


def stanford_cars(folder: Path) -> dict[str, Any]:
    """MATLAB files; the year, last in the original class names, is moved to the front."""
    names = [" ".join([name.split(" ")[-1], *name.split(" ")[:-1]])
             for name in _mat(folder / "devkit" / "cars_meta.mat", "class_names")]

    def read(images, path):
        annotations = _mat(path, "annotations")
        if not {"fname", "class"} <= set(annotations.dtype.names or ()):
            raise DatasetError(f"{path}: its annotations have no fname and class; {AGAIN}")
        return [Item(f"{images}/{name}", int(label) - 1, _named(names, int(label), path))
                for name, label in zip(annotations["fname"], annotations["class"], strict=True)]

    train = folder / "devkit" / "cars_train_annos.mat"
    return _with_test(read("cars_train", train),
                      read("cars_test", folder / "cars_test_annos_withlabels.mat"), train)


def oxford_flowers(folder: Path) -> dict[str, Any]:
    """A MATLAB file of labels in the order of the images; class names come from torchvision."""
    path = folder / "imagelabels.mat"
    names = [name.rstrip("?") for name in _flower_names()]  # CoOp has no ? after a dahlia
    return divide([Item(f"image_{number:05d}.jpg", int(label) - 1, _named(names, int(label), path))
                   for number, label in enumerate(_mat(path, "labels"), start=1)], path)


def _flower_names():
    """The list `classes` in torchvision's source: importing it takes seconds, for all of torch."""
    source = package_folder("torchvision") / "datasets" / "flowers102.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    return next(ast.literal_eval(node.value) for node in ast.walk(tree)
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "classes")


def fgvc_aircraft(folder: Path) -> dict[str, Any]:
    """Official lists of train, val and test, lines `image variant`."""
    names = [" ".join(words) for words in read_lines(folder / "variants.txt")]

    def read(split):
        path = folder / f"images_variant_{split}.txt"
        return [Item(f"{image}.jpg", _label(names, " ".join(variant), path), " ".join(variant))
                for image, *variant in read_lines(path)]

    return {split: read(split) for split in ("train", "val", "test")}


def sun397(folder: Path) -> dict[str, Any]:
    """Partition 01; a class like /a/apse/indoor is named "indoor apse"."""
    names = [path for path, in read_lines(folder / "ClassName.txt", 1)]

    def read(name):
        path = folder / name
        items = []
        for image, in read_lines(path, 1):
            place = PurePosixPath(image)
            label = _label(names, str(place.parent), path)
            items.append(Item(image.lstrip("/"), label, " ".join(place.parent.parts[:1:-1])))
        return items

    return _with_test(read("Training_01.txt"), read("Testing_01.txt"), folder / "Training_01.txt")


def ucf101(folder: Path) -> dict[str, Any]:
    """Split 01 of the videos, whose middle frames are in folders like Apply_Eye_Makeup."""
    lists = folder / "ucfTrainTestlist"
    labels = {name: _number(label, lists / "classInd.txt") - 1
              for label, name in read_lines(lists / "classInd.txt", 2)}

    def read(name):
        items = []
        for video, *_ in read_lines(lists / name):
            action, _, file = video.partition("/")
            if action not in labels:
                raise DatasetError(f"{lists / name}: class {action!r} is not in classInd.txt; "
                                   f"{AGAIN}")
            class_name = "_".join(re.findall("[A-Z][^A-Z]*", action))
            items.append(Item(f"{class_name}/{file.replace('.avi', '.jpg')}", labels[action],
                              class_name))
        return items

    return _with_test(read("trainlist01.txt"), read("testlist01.txt"), lists / "trainlist01.txt")


def _with_test(trainval, test, source):
    return {**divide_trainval(trainval, source), "test": test}


def read_lines(path: Path, n_words: int | None = None) -> list[list[str]]:
    """Return the words of each line of a text file: `n_words`, or at least one."""
    try:
        lines = decoded(_content(path)).splitlines()
    except DatasetError:
        raise
    except ValueError:
        raise DatasetError(f"{path} is not text; {AGAIN}") from None
    words = [line.split() for line in lines]
    for number, line in enumerate(words, start=1):
        if not line or n_words not in (None, len(line)):
            raise DatasetError(f"{path}, line {number}: {n_words or 'some'} words are expected "
                               f"(found {' '.join(line)!r}); {AGAIN}")
    return words


def _mat(path, key):
    """Return the one-dimensional array that a MATLAB file holds under a key."""
    from scipy.io import loadmat
    file = io.BytesIO(_content(path))
    try:
        content = loadmat(file, squeeze_me=True)
    except Exception as error:  # scipy raises many types on damaged files
        raise DatasetError(f"{path} is not a MATLAB file ({error}); {AGAIN}") from None
    if key not in content:
        raise DatasetError(f"{path} holds no {key!r}; {AGAIN}")
    return np.atleast_1d(content[key])


def _content(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist; `python -m promptstudy doctor` says where to "
                           "get it") from None


def _number(text, path):
    if not text.isdecimal():
        raise DatasetError(f"{path}: a class number is expected (found {text!r}); {AGAIN}")
    return int(text)


def _named(names, number, path):
    """The name of the class with a number, counted from 1."""
    if not 1 <= number <= len(names):
        raise DatasetError(f"{path}: there is no class {number}, only {len(names)}; {AGAIN}")
    return names[number - 1]


def _label(names, name, path):
    """The label of the class with a name."""
    try:
        return names.index(name)
    except ValueError:
        raise DatasetError(f"{path}: class {name!r} is not in the dataset's list of classes; "
                           f"{AGAIN}") from None
