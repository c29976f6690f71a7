"""Splits, few-shot draws and image checks."""

import csv
import json
import random
import time
from collections import defaultdict

import numpy as np
import pytest
import torch
from conftest import CLASSES, SHARED, changed, draw_pictures, picture
from PIL import Image

from promptstudy.datasets.images import check_images, load_image
from promptstudy.datasets.items import SPLIT_SEED, SPLITS
from promptstudy.datasets.splits import image_folder, load_dataset
from promptstudy.datasets.subsets import base_and_new, few_shot_draw
from promptstudy.errors import DatasetError
from promptstudy.params import DatasetParams, TargetParams, load_params

OFFICIAL = sorted((SHARED / "splits").glob("split_zhou_*.json"))
needs_grocery = pytest.mark.skipif(not (SHARED / "grocery").is_dir(),
                                   reason="the Grocery Store images are not here")


def load(root, name="figures"):
    return load_dataset(load_params(root / "params.yaml"), name)


def check(root, name="figures"):
    params = load_params(root / "params.yaml")
    return check_images(load_dataset(params, name), image_folder(params, name))


def edit_split(root, change):
    """Rewrite the split file of the `figures` dataset."""
    path = root / "images" / "figures" / "split_zhou_Figures.json"
    split = json.loads(path.read_text())
    path.write_text(json.dumps(change(split) or split))


# which image is which class


def test_split_file_is_read_as_it_is(tiny_suite):
    dataset = load(tiny_suite)
    assert dataset.class_names == CLASSES[:6]  # "red_disc" in the file
    assert [len(dataset.train), len(dataset.val), len(dataset.test)] == [24, 12, 12]
    assert dataset.train[0] == ("red disc/000.png", 0, "red disc")
    assert dataset.template == "a photo of a {}."


def test_split_file_beside_params(own_suite):
    (own_suite / "images" / "figures" / "split_zhou_Figures.json").rename(own_suite / "mine.json")
    text = (own_suite / "params.yaml").read_text()
    (own_suite / "params.yaml").write_text(
        text.replace("figures/split_zhou_Figures.json", "./mine.json"))
    assert len(load(own_suite).train) == 24


def test_folders_are_divided_50_20_30_by_a_fixed_seed(tiny_suite):
    dataset = load(tiny_suite, "shapes")
    assert dataset.class_names == sorted(CLASSES)
    for label in range(len(CLASSES)):
        counts = [sum(item.label == label for item in getattr(dataset, split)) for split in SPLITS]
        assert counts == [5, 2, 3]
    assert load(tiny_suite, "shapes") == dataset
    assert len({item.path for split in SPLITS for item in getattr(dataset, split)}) == 70


@pytest.mark.parametrize("splits", [("train", "test"), SPLITS])
def test_folders_divided_by_the_user(own_suite, splits):
    for split in splits:
        draw_pictures(own_suite / "images" / "mine" / split, CLASSES[:2], count=2)
    dataset = load_own_folder(own_suite)
    assert [len(getattr(dataset, split)) for split in SPLITS] == [
        4 if split in splits else 0 for split in SPLITS]
    assert dataset.test[0].path == "test/green disc/000.png"


@pytest.mark.parametrize("per_class", [1, 2, 30, None])
def test_shifts_are_of_the_same_test_images_of_every_class(tiny_suite, per_class):
    params = load_params(tiny_suite / "params.yaml")
    params = changed(params, transfer=params.transfer.model_copy(update={"per_class": per_class}))
    source, drawn = load_dataset(params, "shapes"), load_dataset(params, "lines")
    assert drawn == load_dataset(params, "lines")
    assert (drawn.train, drawn.val, drawn.class_names) == ([], [], source.class_names)
    assert set(drawn.test) <= set(source.test) and len(set(drawn.test)) == len(drawn.test)
    counts = np.bincount([item.label for item in drawn.test], minlength=len(source.class_names))
    assert (counts == min(per_class or 3, 3)).all()  # a class has three
    assert image_folder(params, "lines") == image_folder(params, "shapes")
    assert drawn.template == source.template == "a drawing of {}."


def test_a_shifted_version_in_folders_is_for_tests_alone(tiny_suite):
    photos = load(tiny_suite, "photos")
    assert photos.class_names == ["blue square", "plain", "striped"]
    assert (photos.train, photos.val, len(photos.test)) == ([], [], 15)
    assert photos.test[0] == ("blue square/000.png", 0, "blue square")
    assert photos.template == "a drawing of {}."  # the source's


def test_of_a_shifted_version_s_split_file_test_images_alone_are_used(own_suite):
    params = load_params(own_suite / "params.yaml")
    target = TargetParams(images="figures/pictures", split="figures/split_zhou_Figures.json")
    params = changed(params, transfer=params.transfer.model_copy(update={"domain": {"x": target}}))
    found, whole = load_dataset(params, "x"), load(own_suite)
    assert (found.train, found.val, found.test) == ([], [], whole.test)
    edit_split(own_suite, lambda split: {**split, "train": [], "val": []})
    assert load_dataset(params, "x") == found
    with pytest.raises(DatasetError, match="no training images for 'red disc', "):
        load(own_suite)


def test_a_shifted_version_s_missing_folder_is_named(own_suite):
    (own_suite / "images" / "photos").rename(own_suite / "images" / "pictures")
    with pytest.raises(DatasetError, match="transfer.domain.photos.images: the folder .*photos "
                                           "does not exist"):
        load(own_suite, "photos")


def test_a_class_may_be_called_train(own_suite):
    draw_pictures(own_suite / "images" / "mine", ["plain", "test", "train"][:1], count=4)
    for name in ("train", "test"):
        (own_suite / "images" / "mine" / "plain").rename(own_suite / "images" / "mine" / name)
        draw_pictures(own_suite / "images" / "mine", ["plain"], count=4)
    assert load_own_folder(own_suite).class_names == ["plain", "test", "train"]


def load_own_folder(root):
    """Load the folder `images/mine` as a dataset without a split file."""
    params = load_params(root / "params.yaml")
    params = changed(params, datasets={"mine": DatasetParams(images="mine")})
    return load_dataset(params, "mine")


@pytest.mark.parametrize("path", OFFICIAL, ids=lambda path: path.stem)
def test_official_splits_load(own_suite, path):
    target = own_suite / "images" / "figures" / "split_zhou_Figures.json"
    target.write_bytes(path.read_bytes())
    dataset, raw = load(own_suite), json.loads(path.read_text())
    for split in SPLITS:
        assert [(i.path, i.label, i.class_name) for i in getattr(dataset, split)] == [
            (p, label, name.replace("_", " ")) for p, label, name in raw[split]]


def grocery_split(folder):
    """The recipe of data/splits/grocery.json from the Grocery Store dataset's own lists.

    Labels are the 43 coarse classes, named in lower case without hyphens. The official test list
    is kept and the training list is split 80/20 per class as CoOp's `split_trainval` does
    with seed 1.
    """
    with open(folder / "classes.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = {int(row["Coarse Class ID (int)"]):
             row["Coarse Class Name (str)"].lower().replace("-", " ") for row in rows}

    def items(file):
        lines = (folder / file).read_text(encoding="utf-8").splitlines()
        fields = [line.split(", ") for line in lines]
        return [[path, int(coarse), names[int(coarse)]] for path, _, coarse in fields]

    by_class = defaultdict(list)
    for item in items("train.txt"):
        by_class[item[1]].append(item)
    generator = random.Random(SPLIT_SEED)
    split = {"train": [], "val": [], "test": items("test.txt")}
    for group in by_class.values():
        generator.shuffle(group)
        n_val = round(0.2 * len(group))
        split["val"] += group[:n_val]
        split["train"] += group[n_val:]
    return split


@needs_grocery
def test_grocery_split_follows_its_recipe(request):
    path = request.config.rootpath / "data" / "splits" / "grocery.json"
    if not path.is_file():
        pytest.skip("data/splits/grocery.json is not here; `dvc pull` fetches it")
    assert json.loads(path.read_text()) == grocery_split(SHARED / "grocery")


# few-shot draws


def coop_draw(train_labels, val_labels, shots, seed):
    """A plain transcription of what CoOp and Dassl do, with Python's global generator."""
    def draw(labels, n):
        tracker = defaultdict(list)
        for index, label in enumerate(labels):
            tracker[label].append(index)
        chosen = []
        for items in tracker.values():
            if len(items) >= n:
                chosen.extend(random.sample(items, n))
            else:
                chosen.extend(items)
        return chosen

    random.seed(seed)
    train = draw(train_labels, shots)
    return train, draw(val_labels, min(shots, 4))


@pytest.mark.filterwarnings("ignore:fewer than")
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_draws_equal_coops(shots):
    rng = np.random.default_rng(0)
    lists = [(rng.integers(0, 7, 90).tolist(), rng.integers(0, 7, 30).tolist()) for _ in range(5)]
    for path in OFFICIAL:
        raw = json.loads(path.read_text())
        lists.append(tuple([label for _, label, _ in raw[split]] for split in ("train", "val")))
    for train_labels, val_labels in lists:
        for seed in (1, 2, 3):
            train, val = few_shot_draw(torch.tensor(train_labels), val_labels, shots, seed)
            assert (train.tolist(), val.tolist()) == coop_draw(train_labels, val_labels, shots,
                                                               seed)


def test_class_short_of_images_gives_all_and_is_named():
    with pytest.warns(UserWarning, match="fewer than 4 training images, so all of them are used, "
                                         "as CoOp does: label 1: 2"):
        train, val = few_shot_draw([0, 0, 1, 0, 0, 1, 0], [], 4, seed=1)
    assert train[4:].tolist() == [2, 5] and val.numel() == 0


@pytest.mark.parametrize("n_classes", [2, 7, 100])
def test_base_and_new(n_classes):
    base, new = base_and_new(n_classes)
    assert base + new == list(range(n_classes))
    assert len(base) - len(new) == n_classes % 2


# datasets that cannot be used


def misspelt(text, replacement):
    """A change of params.yaml."""
    def change(root):
        path = root / "params.yaml"
        path.write_text(path.read_text().replace(text, replacement))
    return change


def rename(label, name, split=None):
    """A change of the split file: another class name for a label."""
    def change(content):
        for key in SPLITS:
            for item in content[key]:
                if item[1] == label and split in (None, key):
                    item[2] = name
    return lambda root: edit_split(root, change)


def without(label, splits):
    """A change of the split file: no images of a label in some splits."""
    def change(content):
        for key in splits:
            content[key] = [item for item in content[key] if item[1] != label]
    return lambda root: edit_split(root, change)


UNUSABLE = {
    "no data_root": (misspelt("data_root: images\n", ""), "data_root is not set in params.yaml"),
    "missing data_root": (misspelt("data_root: images", "data_root: imags"),
                          r"data_root: the folder .*imags does not exist; correct it in"),
    "missing folder": (misspelt("figures/pictures", "figures/picture"),
                       r"datasets.figures.images: the folder .*picture does not exist"),
    "missing split": (misspelt("split_zhou_Figures", "split_zhou_Figure"),
                      r"datasets.figures.split: the split file .*split_zhou_Figure.json does not"),
    "not JSON": (lambda root: (root / "images/figures/split_zhou_Figures.json").write_text("{"),
                 "split_zhou_Figures.json is not valid JSON"),
    "no test key": (lambda root: edit_split(root, lambda content: content.pop("test") and content),
                    "must look like CoOp's split files.*exactly these three keys"),
    "not a list": (lambda root: edit_split(root, lambda content: content | {"val": 3}),
                   "'val' is not a list"),
    "bad item": (lambda root: edit_split(root, lambda content: content | {"val": [["a", "0"]]}),
                 r"'val' holds \['a', '0'\]"),
    "two classes, one name": (rename(1, "Red disc"),
                              "two classes share a name, 'red disc' .label 0. and 'Red disc'"),
    "two names": (rename(1, "lime disc", "test"),
                  "label 1 has two class names, 'green disc' and 'lime disc'"),
    "a label left out": (without(2, SPLITS), r"labels of 5 classes must be 0 to 4; \[2\] are"),
    "an untrained class": (without(2, ["train"]), "no training images for 'blue square'"),
    "no images": (lambda root: edit_split(root, lambda _: {split: [] for split in SPLITS}),
                  "no images"),
    "no test images": (lambda root: edit_split(root, lambda content: content | {"test": []}),
                       "no test images"),
}


@pytest.mark.parametrize("change, message", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_dataset_is_refused_at_once(own_suite, change, message):
    change(own_suite)
    start = time.monotonic()
    with pytest.raises(DatasetError, match=message):
        load(own_suite)
    assert time.monotonic() - start < 5


def test_too_few_images_to_divide(own_suite):
    draw_pictures(own_suite / "images" / "mine", ["plain"], count=3)
    with pytest.raises(DatasetError, match="class 'plain' has 3 images.* needs at least 4"):
        load_own_folder(own_suite)


def test_test_class_without_training_folder(own_suite):
    draw_pictures(own_suite / "images" / "mine" / "train", CLASSES[:1], count=2)
    draw_pictures(own_suite / "images" / "mine" / "test", CLASSES[:2], count=2)
    with pytest.raises(DatasetError, match="class 'green disc' has no folder in .*train"):
        load_own_folder(own_suite)


# images that cannot be used


def test_digests_of_good_images(tiny_suite):
    digests = check(tiny_suite)
    assert len(digests) == 48 and all(len(digest) == 64 for digest in digests.values())


def test_all_bad_images_are_listed_at_once(own_suite):
    folder = own_suite / "images" / "figures" / "pictures"
    (folder / "red disc" / "000.png").unlink()
    (folder / "green disc" / "004.png").write_bytes(b"")
    (folder / "checked" / "006.png").write_text("not an image")
    cut = folder / "striped" / "007.png"
    cut.write_bytes(cut.read_bytes()[:-600])
    (folder / "yellow square" / "006.png").write_bytes(
        (folder / "yellow square" / "000.png").read_bytes())
    (folder / "blue square" / "001.png").write_bytes(
        (folder / "striped" / "001.png").read_bytes())
    with pytest.raises(DatasetError) as caught:
        check(own_suite)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("6 problems with the images of figures in ")
    assert [line.strip() for line in lines[:4]] == [
        "train, class 'red disc', red disc/000.png: the file is missing",
        "val, class 'green disc', green disc/004.png: the file is empty (0 bytes)",
        lines[2].strip(),
        "test, class 'checked', checked/006.png: the file is not an image"]
    assert lines[2].strip().startswith(
        "test, class 'striped', striped/007.png: the file cannot be decoded (")
    assert lines[4].strip() == (
        "the same image is in two classes: train, class 'blue square', blue square/001.png; "
        "train, class 'striped', striped/001.png")
    assert lines[5].strip() == (
        "the same image is in training or validation and in test: train, class 'yellow square', "
        "yellow square/000.png; test, class 'yellow square', yellow square/006.png")


def test_truncated_jpeg_is_noticed(own_suite):
    draw_pictures(own_suite / "images" / "mine", CLASSES[:2], count=4)
    path = own_suite / "images" / "mine" / "red disc" / "004.jpg"
    Image.fromarray(picture("red disc", np.random.default_rng(5))).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match="004.jpg: the file cannot be decoded"):
        check_images(load_own_folder(own_suite), own_suite / "images" / "mine")


@pytest.mark.parametrize("mode, suffix", [
    ("RGBA", "png"), ("LA", "png"), ("P", "png"), ("1", "png"), ("L", "jpg"), ("CMYK", "jpg")])
def test_every_common_mode_becomes_rgb(tmp_path, mode, suffix):
    array = picture("red disc", np.random.default_rng(0))
    Image.fromarray(array).convert(mode).save(tmp_path / f"image.{suffix}")
    image = load_image(tmp_path / f"image.{suffix}")
    assert (image.mode, image.size) == ("RGB", (48, 40))


def test_16_bit_greyscale_keeps_its_tones(tmp_path):
    grey = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(load_image(tmp_path / "deep.png"))[..., 0], grey >> 8)


def test_32_bit_greyscale_is_reported(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "deep.tiff")
    with pytest.raises(ValueError, match="mode F.* save it with 8 bits"):
        load_image(tmp_path / "deep.tiff")


def test_orientation_tag_is_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(tmp_path / "turned.jpg").size == (40, 20)
