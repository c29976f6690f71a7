"""CoOp's fifteen datasets: where each is below data_root, and where its lists come from."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import annotations, imagenet
from .items import read_split_file


class Layout(NamedTuple):
    """A dataset's place in CoOp's folder layout.

    `construct(folder)` makes the lists from raw annotations (see `annotations` and `imagenet`). The
    official `split` file is used instead if it is present; `sizes` are the published numbers of
    classes and of train, val and test images.
    """

    folder: str
    images: str  # in that folder
    construct: Callable
    sizes: tuple
    split: str | None = None
    exact: bool = True  # are the lists made from the raw annotations the official ones?
    test_only: bool = False


def _folders(folder, images, split, sizes, **changes):
    construct = partial(annotations.folders, images=images, **changes)
    return Layout(folder, images, construct, sizes, split, exact=False)


def _shifted(folder, images, construct, sizes):
    return Layout(folder, images, partial(construct, images=images), sizes, test_only=True)


LAYOUTS = {
    "imagenet": Layout("imagenet", "images", imagenet.imagenet, (1000, 1277167, 4000, 50000)),
    "caltech101": _folders(
        "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json",
        (100, 4128, 1649, 2465), ignored=("BACKGROUND_Google", "Faces_easy"),
        renamed={"airplanes": "airplane", "Faces": "face", "Leopards": "leopard",
                 "Motorbikes": "motorbike"}),
    "oxford_pets": Layout("oxford_pets", "images", annotations.oxford_pets,
                          (37, 2944, 736, 3669), "split_zhou_OxfordPets.json"),
    "stanford_cars": Layout("stanford_cars", ".", annotations.stanford_cars,
                            (196, 6509, 1635, 8041), "split_zhou_StanfordCars.json"),
    "oxford_flowers": Layout("oxford_flowers", "jpg", annotations.oxford_flowers,
                             (102, 4093, 1633, 2463), "split_zhou_OxfordFlowers.json"),
    "food101": _folders("food-101", "images", "split_zhou_Food101.json",
                        (101, 50500, 20200, 30300)),
    "fgvc_aircraft": Layout("fgvc_aircraft", "images", annotations.fgvc_aircraft,
                            (100, 3334, 3333, 3333)),
    "sun397": Layout("sun397", "SUN397", annotations.sun397, (397, 15880, 3970, 19850),
                     "split_zhou_SUN397.json"),
    "dtd": _folders("dtd", "images", "split_zhou_DescribableTextures.json",
                    (47, 2820, 1128, 1692)),
    "eurosat": _folders(
        "eurosat", "2750", "split_zhou_EuroSAT.json", (10, 13500, 5400, 8100),
        renamed={"AnnualCrop": "Annual Crop Land",
                 "HerbaceousVegetation": "Herbaceous Vegetation Land",
                 "Highway": "Highway or Road", "Industrial": "Industrial Buildings",
                 "Pasture": "Pasture Land", "PermanentCrop": "Permanent Crop Land",
                 "Residential": "Residential Buildings", "SeaLake": "Sea or Lake"}),
    "ucf101": Layout("ucf101", "UCF-101-midframes", annotations.ucf101,
                     (101, 7639, 1898, 3783), "split_zhou_UCF101.json"),
    "imagenetv2": _shifted("imagenetv2", "imagenetv2-matched-frequency-format-val",
                           imagenet.numbered, (1000, 0, 0, 10000)),
    "imagenet_sketch": _shifted("imagenet-sketch", "images", imagenet.all_classes,
                                (1000, 0, 0, 50889)),
    "imagenet_a": _shifted("imagenet-adversarial", "imagenet-a", imagenet.own_classes,
                           (200, 0, 0, 7500)),
    "imagenet_r": _shifted("imagenet-rendition", "imagenet-r", imagenet.own_classes,
                           (200, 0, 0, 30000)),
}


def read_layout(root: Path, layout: Layout) -> dict[str, Any]:
    """Return the lists of a `Layout` below `root`: `{"train": [Item, ...], "val": ..., ...}`.

    With "imagenet_labels" for the shifted versions of ImageNet. Warns if the lists are not the
    papers', and raises `DatasetError` for files that cannot be used.
    """
    folder = root / layout.folder
    path = folder / (layout.split or "")
    if layout.split and path.is_file():
        return read_split_file(path, "layout")
    if not layout.exact:
        warnings.warn(f"{path} does not exist, so the images are divided anew and not as in the "
                      "papers, which used the order of files on a disk", stacklevel=2)
    return layout.construct(folder)
