"""Images with sentences of their own, for retrieval."""

import json
import random

import torch

from ..errors import DatasetError
from .items import SPLIT_SEED, SPLITS, Dataset, Item
from .splits import data_root

FORMS = ('it must hold one {"image": path, "captions": [sentence, ...]} a line, each with "split" '
         '(train, val or test) or none of them, or be Karpathy\'s JSON of COCO or Flickr30k')


def load_captioned(params, name):
    """Return the `Dataset` of the captioned dataset `name`, whose images are all of one class.

    Its items are those of `read_captions`. Raises `DatasetError`.
    """
    splits = read_captions(captions_path(params, name))
    items = {split: [Item(path, 0, name) for path in splits[split]] for split in SPLITS}
    return Dataset(name, [name], "", **items)


def load_captions(params, name):
    """Return `{image path: [caption, ...]}` of all images of the captioned dataset `name`."""
    return {path: captions for split in read_captions(captions_path(params, name)).values()
            for path, captions in split.items()}


def own_labels(pack):
    """Give every image of a captioned dataset's pack a label of its own, its place in its split.

    As captions belong to images, each image is then a class, described by its captions.
    """
    for split in (pack.train, pack.val, pack.test):
        split.labels = torch.arange(len(split))
    return pack


def captions_path(params, name):
    """Return where the captions of dataset `name` are; raises `DatasetError` without data_root."""
    return data_root(params) / params.captioned[name].captions


def read_captions(path):
    """Return `{split: {image path: [caption, ...]}}` of a file of captions.

    JSON lines `{"image": path, "captions": [...]}` say with "split" where an image belongs, or are
    shuffled by a fixed seed and divided 50/20/30. A `.json` is Karpathy's, with COCO's `restval`
    images in train. Raises `DatasetError` naming the file, the entry and what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DatasetError(f"the captions {path} do not exist; correct captioned in params.yaml") \
            from None
    try:
        entries = (_karpathy(json.loads(text)) if path.suffix == ".json"
                   else [json.loads(line) for line in text.splitlines() if line.strip()])
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} cannot be read ({error!r}); {FORMS}") from None
    for entry in entries:
        if not _sound(entry):
            raise DatasetError(f"{path}: {FORMS}; it holds {str(entry)[:80]}")
    splits = {split: {} for split in SPLITS}
    for entry, split in zip(entries, _splits(entries, path), strict=True):
        if any(entry["image"] in images for images in splits.values()):
            raise DatasetError(f"{path}: two entries for the image {entry['image']!r}; join them")
        splits[split][entry["image"]] = entry["captions"]
    empty = [split for split in ("train", "test") if not splits[split]]
    if empty:
        raise DatasetError(f"{path}: no image is in {' or in '.join(empty)}; {FORMS}")
    return splits


def _karpathy(content):
    """The entries of Karpathy's JSON; of COCO's images the folder stands in `filepath`."""
    return [{"image": "/".join(filter(None, [image.get("filepath"), image["filename"]])),
             "captions": [sentence["raw"] for sentence in image["sentences"]],
             "split": {"restval": "train"}.get(image["split"], image["split"])}
            for image in content["images"]]


def _sound(entry):
    return (isinstance(entry, dict) and entry.keys() - {"split"} == {"image", "captions"}
            and isinstance(entry["image"], str) and isinstance(entry["captions"], list)
            and entry["captions"] and entry.get("split", "train") in SPLITS
            and all(isinstance(caption, str) and caption.strip() for caption in entry["captions"]))


def _splits(entries, path):
    """The split of each entry, as given or drawn."""
    given = [entry["split"] for entry in entries if "split" in entry]
    if given and len(given) < len(entries):
        raise DatasetError(f"{path}: {len(entries) - len(given)} entries have no split; {FORMS}")
    if given:
        return given
    n_train, n_val = round(0.5 * len(entries)), round(0.2 * len(entries))
    drawn = ["train"] * n_train + ["val"] * n_val + ["test"] * (len(entries) - n_train - n_val)
    random.Random(SPLIT_SEED).shuffle(drawn)
    return drawn
