"""CoOp's fifteen datasets: golden lists of the official splits, miniature trees, their damage."""

import json
import re
import shutil
import time

import miniature
import numpy as np
import pytest
import torch
from conftest import SHARED, changed
from make_golden import GOLDEN, MINIATURE, SEEDS, SHOTS, digest
from scipy.io import savemat
from torchvision.datasets import Flowers102

from promptstudy.clip.backbone import load_backbone
from promptstudy.datasets import annotations
from promptstudy.datasets.images import check_images
from promptstudy.datasets.items import SPLITS
from promptstudy.datasets.layouts import LAYOUTS
from promptstudy.datasets.packs import FeaturePack
from promptstudy.datasets.splits import image_folder, load_dataset
from promptstudy.datasets.subsets import base_and_new, few_shot_draw
from promptstudy.errors import DatasetError
from promptstudy.features import extract
from promptstudy.params import Layout, load_params

OFFICIAL = json.loads((GOLDEN / "splits.json").read_text())
LAYOUT_OF = {layout.split: name for name, layout in LAYOUTS.items() if layout.split}
anew = pytest.mark.filterwarnings("ignore:.*the images are divided anew")
twins = pytest.mark.filterwarnings("ignore:.*two classes share a name")
short = pytest.mark.filterwarnings("ignore:fewer than")


def suite(tiny_suite, root):
    """Params whose data_root is `root`, with every layout as a dataset called like it."""
    params = load_params(tiny_suite / "params.yaml")
    return changed(params, data_root=root, **miniature.every_layout())


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    """A data_root with all fifteen datasets in miniature; read only."""
    root = tmp_path_factory.mktemp("data_root")
    for name in LAYOUTS:
        miniature.build(root, name)
    return root


@pytest.fixture
def load(tiny_suite, trees):
    return lambda name: load_dataset(suite(tiny_suite, trees), name)


# the official splits


def official_path(file):
    path = MINIATURE if file == MINIATURE.name else SHARED / "splits" / file
    if not path.is_file():
        pytest.skip(f"CoOp's {file} is not committed and does not lie in {path.parent}")
    return path


def as_golden(dataset, shots, seed):
    """The draw of a run in the form of the golden files."""
    draw = few_shot_draw([item.label for item in dataset.train],
                         [item.label for item in dataset.val], shots, seed)
    return [[list(items[index]) for index in indices]
            for items, indices in zip((dataset.train, dataset.val), draw, strict=True)]


@short
@pytest.mark.parametrize("file", OFFICIAL)
def test_official_lists_names_and_draws_are_coops(tiny_suite, tmp_path, file):
    path, golden = official_path(file), OFFICIAL[file]
    layout = LAYOUTS[LAYOUT_OF.get(file, "food101")]
    (tmp_path / layout.folder / layout.images).mkdir(parents=True)
    shutil.copyfile(path, tmp_path / layout.folder / layout.split)
    dataset = load_dataset(suite(tiny_suite, tmp_path), LAYOUT_OF.get(file, "food101"))
    for split in SPLITS:
        items = getattr(dataset, split)
        assert len(items) == golden["counts"][split]
        assert digest([list(item) for item in items]) == golden["lists"][split]
    assert dataset.class_names == golden["class_names"]
    assert len(base_and_new(len(dataset.class_names))[0]) == golden["n_base"]
    for shots in SHOTS:
        for seed in SEEDS:
            assert digest(as_golden(dataset, shots, seed)) \
                == golden["draws"][f"{shots} shots, seed {seed}"]


def test_golden_counts_are_the_published_ones():
    for file, golden in OFFICIAL.items():
        if file in LAYOUT_OF:
            assert LAYOUTS[LAYOUT_OF[file]].sizes == (len(golden["class_names"]),
                                                      *golden["counts"].values())


def pets_annotations(folder, lists):
    """Pets' lists are sorted by letters and digits alone."""
    trainval = sorted(lists["train"] + lists["val"],
                      key=lambda item: re.sub("[^a-z0-9]", "", item[0].lower()))
    for name, items in (("trainval", trainval), ("test", lists["test"])):
        miniature.text(folder / "annotations" / f"{name}.txt",
                       [f"{path.removesuffix('.jpg')} {label + 1} 1 1" for path, label, _ in items])


def cars_annotations(folder, lists):
    names = {label: name for _, label, name in lists["train"]}
    (folder / "devkit").mkdir()
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(
        [" ".join([*names[label].split(" ")[1:], names[label].split(" ")[0]])
         for label in sorted(names)], dtype=object)})
    for file, items in (("devkit/cars_train_annos.mat", sorted(lists["train"] + lists["val"])),
                        ("cars_test_annos_withlabels.mat", lists["test"])):
        rows = [(label + 1, path.split("/")[1]) for path, label, _ in items]
        savemat(folder / file, {"annotations": np.array(rows, [("class", "u1"),
                                                               ("fname", object)])})


def flowers_annotations(folder, lists):
    items = sorted(lists["train"] + lists["val"] + lists["test"])
    savemat(folder / "imagelabels.mat", {"labels": [label + 1 for _, label, _ in items]})


def ucf_annotations(folder, lists):
    names = {label: name.replace("_", "") for _, label, name in lists["train"]}
    text = miniature.text
    text(folder / "ucfTrainTestlist" / "classInd.txt",
         [f"{label + 1} {names[label]}" for label in sorted(names)])
    for file, items in (("trainlist01", lists["train"] + lists["val"]),
                        ("testlist01", lists["test"])):
        text(folder / "ucfTrainTestlist" / f"{file}.txt",
             [f"{names[label]}/{path.split('/')[1].replace('.jpg', '.avi')} {label + 1}"
              for path, label, _ in sorted(items, key=lambda item: (item[1], item[0]))])


@pytest.mark.parametrize("name, annotate", [
    ("oxford_pets", pets_annotations), ("stanford_cars", cars_annotations),
    ("oxford_flowers", flowers_annotations), ("ucf101", ucf_annotations)])
def test_official_lists_come_out_of_raw_annotations(tiny_suite, tmp_path, name, annotate):
    """Annotations put together again from CoOp's lists give these lists again, to the order."""
    layout = LAYOUTS[name]
    folder = tmp_path / layout.folder
    (folder / layout.images).mkdir(parents=True)
    lists = json.loads(official_path(layout.split).read_text())
    annotate(folder, lists)
    dataset = load_dataset(suite(tiny_suite, tmp_path), name)
    for split in SPLITS:
        assert digest([list(item) for item in getattr(dataset, split)]) \
            == OFFICIAL[layout.split]["lists"][split]


@pytest.mark.parametrize("name", ["caltech101", "dtd", "eurosat"])
def test_folders_are_divided_into_coops_numbers_of_images(tiny_suite, tmp_path, name):
    """Which images they are depends on the order of files on CoOp's disk; class by class, not how
    many."""
    layout = LAYOUTS[name]
    folder = tmp_path / layout.folder / layout.images
    lists = json.loads(official_path(layout.split).read_text())
    for item in sum(lists.values(), []):
        (folder / item[0]).parent.mkdir(parents=True, exist_ok=True)
        (folder / item[0]).touch()
    with pytest.warns(UserWarning, match=f"{layout.split} does not exist, so the images"):
        dataset = load_dataset(suite(tiny_suite, tmp_path), name)
    assert dataset.class_names == OFFICIAL[layout.split]["class_names"]
    for split in SPLITS:
        counts = [np.bincount([item[1] for item in items])
                  for items in (getattr(dataset, split), lists[split])]
        assert np.array_equal(*counts)


# miniature trees


NAMES = {
    "imagenet": list(miniature.WNIDS.values()),
    "caltech101": ["face", "airplane", "wild cat"],
    "oxford_pets": ["abyssinian", "american bulldog", "bombay"],
    "stanford_cars": ["2000 AM General Hummer SUV", "2012 Acura RL Sedan", "2012 Ram C/V Van"],
    "oxford_flowers": ["pink primrose", "hard-leaved pocket orchid", "canterbury bells"],
    "food101": ["apple pie", "baby back ribs", "waffles"],
    "fgvc_aircraft": ["707-320", "A300B4", "F-16A/B"],
    "sun397": ["abbey", "indoor apse", "water tower"],
    "dtd": ["banded", "blotchy", "braided"],
    "eurosat": ["Annual Crop Land", "Forest", "Sea or Lake"],
    "ucf101": ["Apply Eye Makeup", "Handstand Pushups", "Yo Yo"],
    "imagenetv2": list(miniature.WNIDS.values()),
    "imagenet_sketch": list(miniature.WNIDS.values()),
    "imagenet_a": ["goldfish", "missile"],
    "imagenet_r": ["goldfish", "great white shark", "missile"]}
SIZES = {"imagenet": (36, 24, 18), "oxford_pets": (15, 3, 12), "stanford_cars": (12, 3, 15),
         "fgvc_aircraft": (12, 12, 12), "sun397": (15, 3, 12), "ucf101": (15, 3, 12),
         "imagenetv2": (0, 0, 60), "imagenet_sketch": (0, 0, 60), "imagenet_a": (0, 0, 20),
         "imagenet_r": (0, 0, 30)}


def test_every_layout_has_a_name_in_params_and_a_miniature():
    assert set(LAYOUTS) == set(Layout.__args__) == set(NAMES) == set(miniature.FOLDERS)


def test_flower_names_are_read_from_torchvision_without_importing_it():
    assert annotations._flower_names() == Flowers102.classes


@anew
@twins
@pytest.mark.parametrize("name", LAYOUTS)
def test_miniature_loads(tiny_suite, trees, load, name):
    dataset = load(name)
    assert dataset.class_names == NAMES[name] and dataset.published
    assert tuple(len(getattr(dataset, split)) for split in SPLITS) == SIZES.get(name, (15, 6, 9))
    items = [item for split in SPLITS for item in getattr(dataset, split)]
    assert len({item.path for item in items}) == len(items)
    # a class name of each image can be read off its path or its file's place in the annotations
    assert all(dataset.class_names[item.label] == item.class_name for item in items)
    check_images(dataset, image_folder(suite(tiny_suite, trees), name))
    assert load(name) == dataset


@pytest.mark.parametrize("name, path, class_name", [
    ("caltech101", "airplanes/image_0003.jpg", "airplane"),
    ("oxford_pets", "american_bulldog_3.jpg", "american bulldog"),
    ("stanford_cars", "cars_train/00001.jpg", "2000 AM General Hummer SUV"),
    ("stanford_cars", "cars_test/00002.jpg", "2012 Acura RL Sedan"),
    ("oxford_flowers", "image_00001.jpg", "canterbury bells"),
    ("fgvc_aircraft", "0034314.jpg", "A300B4"),
    ("sun397", "a/apse/indoor/sun_tr0.jpg", "indoor apse"),
    ("eurosat", "SeaLake/SeaLake_0.jpg", "Sea or Lake"),
    ("ucf101", "Yo_Yo/v_YoYo_g07_c01.jpg", "Yo Yo"),
    ("imagenet", "val/n01484850/ILSVRC2012_val_00000007.JPEG", "great white shark"),
    ("imagenetv2", "5/5-0.jpeg", "sunglasses"),
    ("imagenet_a", "n04008634/0.0001_0.jpg", "missile")])
@anew
@twins
def test_an_image_has_the_class_that_its_annotation_says(load, name, path, class_name):
    dataset = load(name)
    found = [item.class_name for split in SPLITS for item in getattr(dataset, split)
             if item.path == path]
    assert found == [class_name]


@twins
def test_lists_of_class_names_with_a_byte_order_mark(tiny_suite, tmp_path):
    path = miniature.build(tmp_path, "imagenet") / "classnames.txt"
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_dataset(suite(tiny_suite, tmp_path), "imagenet").class_names == NAMES["imagenet"]


@twins
def test_labels_in_imagenet_are_known(load):
    assert [load(name).imagenet_labels for name in
            ("imagenet_a", "imagenet_r", "imagenetv2", "imagenet", "oxford_pets")] \
        == [[1, 4], [1, 2, 3], [0, 1, 2, 3, 4, 5], None, None]


@twins
def test_imagenets_val_is_for_tests_alone(load):
    dataset = load("imagenet")
    assert {item.path.split("/")[0] for item in dataset.train + dataset.val} == {"train"}
    assert {item.path.split("/")[0] for item in dataset.test} == {"val"}
    assert np.bincount([item.label for item in dataset.val]).tolist() == [4] * 6


def test_official_split_is_preferred_to_annotations(tiny_suite, tmp_path):
    folder = miniature.build(tmp_path, "oxford_pets")
    params = suite(tiny_suite, tmp_path)
    lists = load_dataset(params, "oxford_pets")._asdict()
    lists = {split: lists[split][::-1] for split in SPLITS}
    miniature.write_split(folder, "split_zhou_OxfordPets.json", lists)
    dataset = load_dataset(params, "oxford_pets")
    assert {split: getattr(dataset, split) for split in SPLITS} == lists


def test_class_names_of_imagenet_serve_its_versions(tiny_suite, tmp_path):
    miniature.build(tmp_path, "imagenet")
    (miniature.build(tmp_path, "imagenet_a") / "classnames.txt").unlink()
    dataset = load_dataset(suite(tiny_suite, tmp_path), "imagenet_a")
    assert dataset.class_names == NAMES["imagenet_a"]


def test_features_of_a_dataset_for_tests_alone(tiny_suite, trees, tmp_path):
    params = suite(tiny_suite, trees)
    backbone = load_backbone(params.backbone.name, root=params.root)
    extract(params, "imagenet_a", backbone, tmp_path)
    pack = FeaturePack.load(tmp_path / "imagenet_a.safetensors")
    assert (len(pack.train), len(pack.val), len(pack.test)) == (0, 0, 20)
    assert pack.provenance["imagenet_labels"] == [1, 4] and pack.class_names == NAMES["imagenet_a"]
    assert pack.train.features.shape == (0, 16) and torch.isfinite(pack.test.features).all()


def test_twice_published_images_are_a_warning(tiny_suite, tmp_path):
    folder = miniature.build(tmp_path, "sun397") / "SUN397"
    shutil.copyfile(folder / "a/abbey/sun_tr0.jpg", folder / "a/apse/indoor/sun_tr1.jpg")
    params = suite(tiny_suite, tmp_path)
    with pytest.warns(UserWarning, match="sun397: 1 images of the published lists occur twice"):
        digests = check_images(load_dataset(params, "sun397"), image_folder(params, "sun397"))
    assert len(digests) == 30


# trees that cannot be used


def gone(path):
    """A change of a dataset's folder: something is missing."""
    def change(folder):
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    return change


def edited(path, old, new):
    """A change of a text file."""
    def change(folder):
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new, 1))
    return change


def torn(path):
    """A change of a file: its second half is missing."""
    def change(folder):
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(content[:len(content) // 2])
    return change


def matlab(path, **content):
    """A change of a MATLAB file: other content."""
    return lambda folder: savemat(folder / path, content)


def emptied(path):
    """A change of a folder: no images in it."""
    def change(folder):
        for file in (folder / path).iterdir():
            file.unlink()
    return change


def added(path):
    """A change: one more folder with an image."""
    return lambda folder: miniature.picture(folder / path / "1.jpg")


def flat(path):
    """A change: the images of all class folders lie in the folder above them."""
    def change(folder):
        for file in list((folder / path).glob("*/*")):
            file.rename(folder / path / file.name)
        for empty in list((folder / path).iterdir()):
            if empty.is_dir():
                empty.rmdir()
    return change


SPLIT_FILE = "split_zhou_OxfordPets.json"
DAMAGES = {
    "no folder": ("dtd", gone("."), r"datasets.dtd.layout: the folder .*dtd/images does not exist; "
                                    "`python -m promptstudy doctor dtd` says where to get it"),
    "no images folder": ("ucf101", gone("UCF-101-midframes"), "UCF-101-midframes does not exist"),
    "emptied class": ("dtd", emptied("images/banded"),
                      "images/banded: it holds no images; add some or remove the folder"),
    "too few images": ("food101", lambda folder: [
        path.unlink() for path in sorted((folder / "images/waffles").iterdir())[3:]],
        "class 'waffles' has 3 images"),
    "split not JSON": ("oxford_pets", lambda folder: (folder / SPLIT_FILE).write_text("{"),
                       f"{SPLIT_FILE} is not valid JSON.*get the split file again"),
    "a web page for a split": ("oxford_pets", lambda folder: (folder / SPLIT_FILE).write_text(
        "<!DOCTYPE html>"), f"{SPLIT_FILE} is not valid JSON"),
    "no list of classes": ("oxford_pets", gone("annotations/trainval.txt"),
                           "trainval.txt does not exist; `python -m promptstudy doctor` says"),
    "words missing": ("oxford_pets", edited("annotations/test.txt", "Abyssinian_6 1 1 1",
                                            "Abyssinian_6 1"),
                      "test.txt, line 1: 4 words are expected .found 'Abyssinian_6 1'.; get it"),
    "not a number": ("oxford_pets", edited("annotations/test.txt", "Abyssinian_6 1", "Abyssinian "
                                           "one"), "test.txt: a class number is expected .*'one'"),
    "class left out": ("oxford_pets", lambda folder: [
        (folder / f"annotations/{name}.txt").write_text("\n".join(
            line for line in (folder / f"annotations/{name}.txt").read_text().splitlines()
            if not line.startswith("american"))) for name in ("trainval", "test")],
        r"the labels of 2 classes must be 0 to 1; \[1\] are missing"),
    "not text": ("sun397", lambda folder: (folder / "ClassName.txt").write_bytes(b"\xff\xfe\x00"),
                 "ClassName.txt is not text; get it again"),
    "empty line": ("sun397", edited("Training_01.txt", "/sun_tr0.jpg\n", "/sun_tr0.jpg\n\n"),
                   "Training_01.txt, line 2: 1 words are expected .found ''"),
    "unknown class": ("sun397", edited("Testing_01.txt", "/a/abbey", "/a/alley"),
                      "Testing_01.txt: class '/a/alley' is not in the dataset's list of classes"),
    "too few to divide": ("sun397", edited("Training_01.txt", "\n".join(
        f"/a/abbey/sun_tr{number}.jpg" for number in range(4)) + "\n", ""),
        "Training_01.txt: class 'abbey' has 2 training images; dividing them 80/20 needs at least"),
    "no MATLAB file": ("stanford_cars", gone("devkit/cars_meta.mat"), "cars_meta.mat does not"),
    "torn MATLAB file": ("stanford_cars", torn("devkit/cars_train_annos.mat"),
                         "cars_train_annos.mat is not a MATLAB file .*; get it again"),
    "not MATLAB": ("oxford_flowers", lambda folder: (folder / "imagelabels.mat").write_text("no"),
                   "imagelabels.mat is not a MATLAB file"),
    "no such key": ("oxford_flowers", matlab("imagelabels.mat", label=[1, 2]),
                    "imagelabels.mat holds no 'labels'; get it again"),
    "class out of range": ("oxford_flowers", matlab("imagelabels.mat", labels=[1, 103]),
                           "imagelabels.mat: there is no class 103, only 102; get it again"),
    "without labels": ("stanford_cars", matlab(
        "cars_test_annos_withlabels.mat", annotations=np.array([("a.jpg",)], [("fname", object)])),
        "cars_test_annos_withlabels.mat: its annotations have no fname and class; get it again"),
    "unknown variant": ("fgvc_aircraft", edited("images_variant_val.txt", "A300B4", "A300B5"),
                        "images_variant_val.txt: class 'A300B5' is not in the dataset's list"),
    "unknown action": ("ucf101", edited("ucfTrainTestlist/testlist01.txt", "YoYo/", "YoYoYo/"),
                       "testlist01.txt: class 'YoYoYo' is not in classInd.txt"),
    "no class names": ("imagenet", gone("classnames.txt"), "classnames.txt does not exist; `pyth"),
    "names without ids": ("imagenet", edited("classnames.txt", "n01443537 goldfish", "goldfish"),
                          "classnames.txt, line 2: a WordNet id and a class name are .*'goldfish'"),
    "names in disorder": ("imagenet", edited("classnames.txt", "n01440764", "n01500000"),
                          "classnames.txt: its WordNet ids are not in order"),
    "a class twice": ("imagenet", edited("classnames.txt", "n01443537", "n01440764"),
                      "classnames.txt: its WordNet ids are not in order"),
    "flat val": ("imagenet", flat("images/val"),
                 "images/val: one folder per class is expected, there is none .*parse_val_archive"),
    "no train": ("imagenet", gone("images/train"), "images/train: one folder per class is"),
    "a class without train folder": ("imagenet", gone("images/train/n01443537"),
                                     "images/train: 1 classes of classnames.txt have no folder, "
                                     "e.g. 'n01443537'; unpack the archive again"),
    "few training images": ("imagenet", lambda folder: [
        path.unlink() for path in sorted((folder / "images/train/n01443537").iterdir())[4:]],
        "train/n01443537: 4 images, at least 5 are needed"),
    "a folder too many": ("imagenet_r", added("imagenet-r/n99999999"),
                          "'n99999999' is not a class of classnames.txt; remove the folder"),
    "a class without number": ("imagenetv2", gone("imagenetv2-matched-frequency-format-val/3"),
                               "1 classes of classnames.txt have no folder, e.g. '3'"),
    "a class without sketch": ("imagenet_sketch", gone("images/n01440764"), "e.g. 'n01440764'"),
    "emptied class of A": ("imagenet_a", emptied("imagenet-a/n04008634"),
                           "imagenet-a/n04008634: it holds no images"),
}


@anew
@twins
@pytest.mark.parametrize("name, damage, message", DAMAGES.values(), ids=DAMAGES)
def test_damage_gives_one_clear_error(tiny_suite, tmp_path, name, damage, message):
    damage(miniature.build(tmp_path, name))
    start = time.monotonic()
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(suite(tiny_suite, tmp_path), name)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 5


def test_damaged_images_are_listed_before_anything_is_computed(tiny_suite, tmp_path):
    folder = miniature.build(tmp_path, "stanford_cars")
    (folder / "cars_test" / "00002.jpg").unlink()
    torn("cars_train/00001.jpg")(folder)
    params = suite(tiny_suite, tmp_path)
    with pytest.raises(DatasetError) as caught:
        check_images(load_dataset(params, "stanford_cars"), image_folder(params, "stanford_cars"))
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("2 problems with the images of stanford_cars")
    assert "class '2000 AM General Hummer SUV', cars_train/00001.jpg: the file cannot be decoded" \
        in lines[0] + lines[1]
    assert "test, class '2012 Acura RL Sedan', cars_test/00002.jpg: the file is missing" in lines[1]
