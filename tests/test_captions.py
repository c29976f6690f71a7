"""Captioned datasets: the two forms of their files, their splits, and what is refused."""

import json

import pytest
import torch

from promptstudy.datasets import draws
from promptstudy.datasets.captions import load_captioned, load_captions, read_captions
from promptstudy.datasets.packs import own_labels
from promptstudy.errors import DatasetError
from promptstudy.features import extract
from promptstudy.params import load_params

# the form of Karpathy's dataset_coco.json and dataset_flickr30k.json, cut to what matters
KARPATHY = {"dataset": "coco", "images": [
    {"filepath": "val2014", "sentids": [1, 2], "filename": "a.jpg", "imgid": 0, "split": "test",
     "sentences": [{"tokens": ["a", "man"], "raw": "A man.", "imgid": 0, "sentid": 1},
                   {"tokens": ["he"], "raw": "He walks.", "imgid": 0, "sentid": 2}], "cocoid": 7},
    {"filepath": "train2014", "filename": "b.jpg", "imgid": 1, "split": "restval",
     "sentences": [{"raw": "A dog ."}]},
    {"filename": "c.jpg", "imgid": 2, "split": "train", "sentences": [{"raw": "Two men."}]},
    {"filename": "d.jpg", "imgid": 3, "split": "val", "sentences": [{"raw": "A car."}]}]}


# the form of captions_val2017.json and nocaps_val_4500_captions.json, likewise
COCO = {"info": {"year": 2017}, "licenses": [], "images": [
    {"license": 4, "file_name": f"{number:012d}.jpg", "height": 427, "width": 640, "id": number}
    for number in range(10)], "annotations": [
    {"image_id": number % 10, "id": number, "caption": f"Picture {number}. "}
    for number in range(20)]}
NOCAPS = {"info": {}, "licenses": [], "images": [
    {"id": number, "open_images_id": f"0013ea2087020901{number}", "height": 9, "width": 9,
     "coco_url": "", "domain": "in-domain"} for number in range(10)],
    "annotations": COCO["annotations"]}


def lines(*entries):
    return "\n".join(json.dumps(entry) for entry in entries) + "\n"


def entry(number, **more):
    return {"image": f"{number}.jpg", "captions": [f"picture {number}"], **more}


@pytest.fixture
def read(tmp_path):
    """A function that reads captions from a file of that name and content."""
    def of(content, name="captions.jsonl"):
        (tmp_path / name).write_text(content)
        return read_captions(tmp_path / name)
    return of


def test_karpathy_s_form_is_read_as_it_is(read):
    splits = read(json.dumps(KARPATHY), "dataset_coco.json")
    assert splits == {"train": {"train2014/b.jpg": ["A dog ."], "c.jpg": ["Two men."]},
                      "val": {"d.jpg": ["A car."]},
                      "test": {"val2014/a.jpg": ["A man.", "He walks."]}}


def test_lines_with_splits_are_taken_as_they_are(read):
    splits = read(lines(entry(1, split="test"), entry(2, split="train"), entry(3, split="train")))
    assert {split: list(images) for split, images in splits.items()} == {
        "train": ["2.jpg", "3.jpg"], "val": [], "test": ["1.jpg"]}


def test_lines_without_splits_are_divided_always_alike(read):
    content = lines(*map(entry, range(20)))
    splits = read(content)
    assert [len(splits[split]) for split in ("train", "val", "test")] == [10, 4, 6]
    assert read(content) == splits
    assert list(splits["train"]) != [f"{number}.jpg" for number in range(10)]
    assert {path: text for split in splits.values() for path, text in split.items()} == {
        f"{number}.jpg": [f"picture {number}"] for number in range(20)}


@pytest.mark.parametrize("content, message", [
    (lines(entry(1), entry(2, split="test")), "1 entries have no split"),
    (lines(entry(1, split="test"), entry(1, split="train")), "two entries for the image '1.jpg'"),
    (lines(entry(1, split="test")), "no image is in train"),
    (lines(entry(1, split="trian")), "it holds {'image': '1.jpg'"),
    (lines({"image": "1.jpg", "captions": []}), "it holds {'image': '1.jpg', 'captions': \\[\\]}"),
    (lines({"image": "1.jpg", "caption": "x"}), "it must hold one"),
    ("[1]\n", "it holds \\[1\\]"), (lines(entry(1)) + "{", "cannot be read as JSON .line 2: "),
    (lines({"image": "../1.jpg", "captions": ["x"]}), "image '../1.jpg' leads out of the images"),
    (lines({"image": "/1.jpg", "captions": ["x"]}), "image '/1.jpg' is absolute"),
    ("[" * 100_000, "line 1: its brackets are nested too deeply"),
    ("", "no image is in train or in test"),
])
def test_faulty_lines_are_refused(read, content, message):
    with pytest.raises(DatasetError, match=message):
        read(content)


def test_other_json_and_a_missing_file_are_refused(read, tmp_path):
    with pytest.raises(DatasetError, match="it lacks the key 'images'.*Karpathy"):
        read('{"pictures": []}', "captions.json")
    with pytest.raises(DatasetError, match="does not exist; correct captioned in params.yaml"):
        read_captions(tmp_path / "none.jsonl")


def test_a_captioned_dataset_has_features_in_the_order_of_its_captions(tiny_suite, tiny_backbone,
                                                                       tmp_path):
    params = load_params(tiny_suite / "params.yaml")
    captions, dataset = load_captions(params, "pairs"), load_captioned(params, "pairs")
    pack = own_labels(extract(params, "pairs", tiny_backbone, tmp_path))
    other = extract(params, "figures", tiny_backbone, tmp_path)  # the same pictures, by class
    for split, theirs in (("train", other.train), ("val", other.val), ("test", other.test)):
        mine = getattr(pack, split)
        assert mine.paths == [item.path for item in getattr(dataset, split)]
        assert all(len(captions[path]) == 2 for path in mine.paths)
        assert torch.equal(mine.labels, torch.arange(len(mine)))
        assert mine.paths == theirs.paths and torch.equal(mine.features, theirs.features)


def test_of_a_large_captioned_dataset_all_images_are_encoded(tiny_suite, tiny_backbone, tmp_path,
                                                             monkeypatch):
    """To a draw they are all of one class until each is given a class of its own."""
    monkeypatch.setattr(draws, "WHOLE", 1)
    params = load_params(tiny_suite / "params.yaml")
    pack = own_labels(extract(params, "pairs", tiny_backbone, tmp_path))
    assert pack.train.paths == [item.path for item in load_captioned(params, "pairs").train]
    drawn, _ = pack.draw(1, 1)
    assert torch.equal(drawn.sort().values, torch.arange(len(pack.train)))


@pytest.mark.parametrize("content, name", [(COCO, "{:012d}.jpg"),
                                           (NOCAPS, "0013ea2087020901{}.jpg")])
def test_coco_s_own_form_is_read_and_divided(read, content, name):
    splits = read(json.dumps(content), "captions_val2017.json")
    assert [len(splits[split]) for split in ("train", "val", "test")] == [5, 2, 3]
    assert {path: text for split in splits.values() for path, text in split.items()} == {
        name.format(number): [f"Picture {number}.", f"Picture {number + 10}."]
        for number in range(10)}


def test_coco_s_images_without_captions_are_left_out(read):
    content = COCO | {"annotations": COCO["annotations"][:9]}
    with pytest.warns(UserWarning, match="1 images have no caption .* e.g. 000000000009.jpg"):
        splits = read(json.dumps(content), "captions.json")
    assert sum(map(len, splits.values())) == 9


@pytest.mark.parametrize("change, message", [
    ({"annotations": [{"image_id": 1, "bbox": []}]}, "have no captions; take the captions_"),
    ({"annotations": [{"image_id": 99, "caption": "x"}]}, "of an image 99 that is not among"),
    ({"images": [{"id": 1}]}, "an unknown form .it lacks the key 'open_images_id'"),
    ({"annotations": [3]}, "an unknown form"), ({"images": None}, "an unknown form")])
def test_files_of_coco_that_are_of_no_use(read, change, message):
    with pytest.raises(DatasetError, match=message):
        read(json.dumps(COCO | change), "captions.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_captions_in_other_encodings(tmp_path, encoding):
    content = lines(entry(1, split="train"), {"image": "2.jpg", "captions": ["a\u2028b"],
                                              "split": "test"})
    content = content.replace("\\u2028", "\u2028").replace("\n", "\r\n")
    (tmp_path / "c.jsonl").write_bytes(content.encode(encoding))
    assert read_captions(tmp_path / "c.jsonl")["test"] == {"2.jpg": ["a\u2028b"]}
