"""Images with captions, for retrieval."""

import random
import warnings
from collections import defaultdict
from pathlib import Path

from ..errors import DatasetError
from ..params import Params
from ..textfiles import parse_json, read_text
from .items import SPLIT_SEED, SPLITS, Dataset, Item
from .paths import path_fault
from .root import data_root

FORMS = ('it must hold one {"image": path, "captions": [sentence, ...]} per line, all with "split" '
         '(train, val or test) or all without, or be Karpathy\'s JSON of COCO or Flickr30k, or '
         'the captions_*.json of COCO or NoCaps')


def load_captioned(params: Params, name: str) -> Dataset:
    """Return the `Dataset` of the captioned dataset `name`, whose images are all of one class.

    Its items come from `read_captions`. Raises `DatasetError`.
    """
    splits = read_captions(captions_path(params, name))
    items = {split: [Item(path, 0, name) for path in splits[split]] for split in SPLITS}
    return Dataset(name, [name], "", items["train"], items["val"], items["test"])


def load_captions(params: Params, name: str) -> dict[str, list[str]]:
    """Return `{image path: [caption, ...]}` of all images of the captioned dataset `name`."""
    return {path: captions for split in read_captions(captions_path(params, name)).values()
            for path, captions in split.items()}


def captions_path(params: Params, name: str) -> Path:
    """Return where the captions of dataset `name` are; raises `DatasetError` without data_root."""
    return data_root(params) / params.captioned[name].captions


def read_captions(path: Path) -> dict[str, dict[str, list[str]]]:
    """Return `{split: {image path: [caption, ...]}}` of a file of captions.

    JSON lines `{"image": path, "captions": [...]}` give an image's split as "split", or are
    shuffled with a fixed seed and divided 50/20/30. A `.json` is Karpathy's, with COCO's `restval`
    images in train, or COCO's or NoCaps' own, which has no splits and is divided the same way.
    Raises `DatasetError` naming the file, the entry and what is wrong.
    """
    try:
        text = read_text(path, DatasetError)
    except FileNotFoundError:
        raise DatasetError(f"the captions file {path} does not exist; correct captioned in "
                           "params.yaml") from None
    try:
        entries = (_entries(parse_json(text), path) if path.suffix.lower() == ".json"
                   else _lines(text))
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read as JSON ({error}); {FORMS}") from None
    except (AttributeError, KeyError, TypeError) as error:
        what = f"it lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise DatasetError(f"{path} has an unknown form ({what}); {FORMS}") from None
    for entry in entries:
        if not _sound(entry):
            raise DatasetError(f"{path}: {FORMS}; it holds {str(entry)[:80]}")
        if fault := path_fault(entry["image"]):
            raise DatasetError(f"{path}: the image {entry['image']!r} {fault}")
    splits: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    for entry, split in zip(entries, _splits(entries, path), strict=True):
        if any(entry["image"] in images for images in splits.values()):
            raise DatasetError(f"{path}: two entries for the image {entry['image']!r}; merge them")
        splits[split][entry["image"]] = entry["captions"]
    empty = [split for split in ("train", "test") if not splits[split]]
    if empty:
        raise DatasetError(f"{path}: no image is in {' or in '.join(empty)}; {FORMS}")
    return splits


def _lines(text):
    """The entries of JSON lines, split only at newlines: sentences may hold other line breaks."""
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            entries += [parse_json(line)] if line.strip() else []
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return entries


def _entries(content, path):
    """The entries of a JSON file, by its form."""
    return _coco(content, path) if "annotations" in content else _karpathy(content)


def _karpathy(content):
    """The entries of Karpathy's JSON; for COCO, `filepath` holds an image's folder."""
    return [{"image": "/".join(filter(None, [image.get("filepath"), image["filename"]])),
             "captions": [sentence["raw"] for sentence in image["sentences"]],
             "split": {"restval": "train"}.get(image["split"], image["split"])}
            for image in content["images"]]


def _coco(content, path):
    """The entries of COCO's or NoCaps' own file, which lists captions apart from images."""
    if any("caption" not in annotation for annotation in content["annotations"]):
        raise DatasetError(f"{path}: its annotations have no captions; take the captions_*.json "
                           "of the same images (instances_*.json holds boxes)")
    captions = defaultdict(list)
    for annotation in content["annotations"]:
        captions[annotation["image_id"]].append(annotation["caption"].strip())
    names = {image["id"]: _coco_name(image) for image in content["images"]}
    strangers = captions.keys() - names.keys()
    if strangers:
        raise DatasetError(f"{path}: there are captions of an image {min(strangers)!r} that is "
                           "not among its images; get the file again")
    without = [name for identity, name in names.items() if not captions[identity]]
    if without:
        warnings.warn(f"{path}: {len(without)} images have no caption and are left out, e.g. "
                      f"{without[0]}", stacklevel=2)
    return [{"image": name, "captions": captions[identity]}
            for identity, name in names.items() if captions[identity]]


def _coco_name(image):
    """The name of an image's file; NoCaps' own are named by their Open Images id."""
    return image["file_name"] if "file_name" in image else f"{image['open_images_id']}.jpg"


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
