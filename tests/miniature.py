"""CoOp's fifteen datasets in miniature: with the official folders, names and annotation formats.

`build(root, name)` makes one below a data_root, as its archives unpack: without CoOp's split file,
which `write_split` adds. Every image is a small picture of its own.
"""

import json

import numpy as np
from PIL import Image
from scipy.io import savemat

from promptstudy.datasets.layouts import LAYOUTS
from promptstudy.params import DatasetParams, TargetParams, TransferParams

PER_CLASS = 10
WNIDS = {"n01440764": "tench", "n01443537": "goldfish", "n01484850": "great white shark",
         "n03773504": "missile", "n04008634": "missile", "n04355933": "sunglasses"}


def every_layout():
    """Return params with every layout as a dataset, or a version of ImageNet, called like it."""
    shifted = {name for name, layout in LAYOUTS.items() if layout.test_only}
    return {"datasets": {name: DatasetParams(layout=name) for name in LAYOUTS.keys() - shifted},
            "transfer": TransferParams(source="imagenet", shots=2, domain={
                name: TargetParams(layout=name) for name in shifted})}


def build(root, name):
    """Build the dataset with that layout below `root`; return its folder."""
    folder = root / FOLDERS[name]
    globals()[name](folder)
    return folder


def write_split(folder, file, lists):
    """Write lists `{"train": [(path, label, class name), ...], ...}` as CoOp's split file."""
    (folder / file).write_text(json.dumps({split: [list(item) for item in lists[split]]
                                           for split in ("train", "val", "test")}))


def picture(path, size=40):
    """Draw a picture that depends on its path alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path).encode()))
    Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(path)


def text(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _folders(images, classes, form="{}_{:04d}.jpg"):
    for name in classes:
        for number in range(PER_CLASS):
            picture(images / name / form.format(name, number))


def caltech101(folder):
    _folders(folder / "101_ObjectCategories",
             ["BACKGROUND_Google", "Faces", "Faces_easy", "airplanes", "wild_cat"],
             "image_{1:04d}.jpg")


def dtd(folder):
    _folders(folder / "images", ["banded", "blotchy", "braided"])


def eurosat(folder):
    _folders(folder / "2750", ["AnnualCrop", "Forest", "SeaLake"], "{}_{}.jpg")


def food101(folder):
    _folders(folder / "images", ["apple_pie", "baby_back_ribs", "waffles"], "{1}.jpg")


def oxford_pets(folder):
    lines = {"trainval": [], "test": []}
    for label, breed in enumerate(["Abyssinian", "american_bulldog", "Bombay"], start=1):
        for number in range(PER_CLASS):
            picture(folder / "images" / f"{breed}_{number}.jpg")
            lines["trainval" if number < 6 else "test"].append(f"{breed}_{number} {label} 1 1")
    for name in lines:
        text(folder / "annotations" / f"{name}.txt", lines[name])


def stanford_cars(folder):
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Van 2012"],
                     dtype=object)
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    for images, file in (("cars_train", "devkit/cars_train_annos.mat"),
                         ("cars_test", "cars_test_annos_withlabels.mat")):
        files = [f"{number:05d}.jpg" for number in range(1, 16)]
        for name in files:
            picture(folder / images / name)
        rows = [(1, 1, 9, 9, number % 3 + 1, name) for number, name in enumerate(files)]
        kinds = [(f"bbox_{side}", "u1") for side in ("x1", "y1", "x2", "y2")]
        savemat(folder / file, {"annotations": np.array(
            rows, dtype=[*kinds, ("class", "u1"), ("fname", object)])})


def oxford_flowers(folder):
    labels = np.repeat([3, 1, 2], PER_CLASS)
    for number in range(1, len(labels) + 1):
        picture(folder / "jpg" / f"image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": labels.astype("u1")})


def fgvc_aircraft(folder):
    variants, number = ["707-320", "A300B4", "F-16A/B"], 34309
    text(folder / "variants.txt", variants)
    for split in ("train", "val", "test"):
        lines = []
        for variant in variants:
            for _ in range(4):
                number += 1
                picture(folder / "images" / f"{number:07d}.jpg")
                lines.append(f"{number:07d} {variant}")
        text(folder / f"images_variant_{split}.txt", lines)


def sun397(folder):
    classes = ["/a/abbey", "/a/apse/indoor", "/w/water_tower"]
    text(folder / "ClassName.txt", classes)
    for file, count in (("Training_01", 6), ("Testing_01", 4)):
        images = [f"{place}/sun_{file[:2].lower()}{number}.jpg"
                  for place in classes for number in range(count)]
        for image in images:
            picture(folder / "SUN397" / image[1:])
        text(folder / f"{file}.txt", images)


def ucf101(folder):
    actions = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "HandstandPushups": "Handstand_Pushups",
               "YoYo": "Yo_Yo"}
    lists = folder / "ucfTrainTestlist"
    text(lists / "classInd.txt", [f"{n} {action}" for n, action in enumerate(actions, start=1)])
    lines = {"trainlist01": [], "testlist01": []}
    for label, (action, renamed) in enumerate(actions.items(), start=1):
        for number in range(PER_CLASS):
            name = f"v_{action.replace('stand', 'Stand')}_g{number + 1:02d}_c01"
            picture(folder / "UCF-101-midframes" / renamed / f"{name}.jpg")
            if number < 6:
                lines["trainlist01"].append(f"{action}/{name}.avi {label}")
            else:
                lines["testlist01"].append(f"{action}/{name}.avi")
    for name in lines:
        text(lists / f"{name}.txt", lines[name])


def _class_names(folder):
    text(folder / "classnames.txt", [f"{wnid} {name}" for wnid, name in WNIDS.items()])


def imagenet(folder):
    _class_names(folder)
    _folders(folder / "images" / "train", WNIDS, "{}_{}.JPEG")
    for number, wnid in enumerate(WNIDS):
        for image in range(3):
            picture(folder / "images/val" / wnid / f"ILSVRC2012_val_{3 * number + image:08d}.JPEG")


def imagenetv2(folder):
    _class_names(folder)
    _folders(folder / "imagenetv2-matched-frequency-format-val", map(str, range(len(WNIDS))),
             "{}-{}.jpeg")


def imagenet_sketch(folder):
    _class_names(folder)
    _folders(folder / "images", WNIDS, "sketch_{1}.JPEG")


def imagenet_a(folder):
    _class_names(folder)
    _folders(folder / "imagenet-a", ["n01443537", "n04008634"], "0.0001_{1}.jpg")
    text(folder / "imagenet-a" / "README.txt", ["Natural adversarial examples"])


def imagenet_r(folder):
    _class_names(folder)
    _folders(folder / "imagenet-r", ["n01443537", "n01484850", "n03773504"], "art_{1}.jpg")
    text(folder / "imagenet-r" / "README.txt", ["Renditions"])


FOLDERS = {
    "imagenet": "imagenet", "caltech101": "caltech-101", "oxford_pets": "oxford_pets",
    "stanford_cars": "stanford_cars", "oxford_flowers": "oxford_flowers", "food101": "food-101",
    "fgvc_aircraft": "fgvc_aircraft", "sun397": "sun397", "dtd": "dtd", "eurosat": "eurosat",
    "ucf101": "ucf101", "imagenetv2": "imagenetv2", "imagenet_sketch": "imagenet-sketch",
    "imagenet_a": "imagenet-adversarial", "imagenet_r": "imagenet-rendition"}
