"""Read images the same way everywhere, and check a whole dataset before anything is computed."""

import hashlib
import io
import os
import stat
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from ..errors import DatasetError
from .items import SPLITS, Dataset


def load_image(file: Any) -> Image.Image:
    """Return an image file (a path or an open file) as an RGB PIL image, as CLIP's transform does.

    Palettes, CMYK and transparency are converted (transparency is dropped) and the EXIF
    orientation is ignored. 16-bit greyscale is scaled to 8 bits, which PIL would clip to white.
    Raises `OSError` for a file that cannot be decoded and `ValueError` for 32-bit greyscale, whose
    range of values is not known.
    """
    with Image.open(file) as image:
        if image.mode.startswith("I;16"):
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        if image.mode in ("I", "F"):
            raise ValueError(f"32-bit greyscale (mode {image.mode}) has no known range of values; "
                             "save it with 8 bits")
        return image.convert("RGB")


def image_seed(digest: str) -> int:
    """Return the random seed of an image, from its SHA-256."""
    return int(digest[:15], 16)


def check_images(dataset: Dataset, folder: Path) -> dict[str, str]:
    """Read and decode every image of a `Dataset` once; return `{path: SHA-256 of its bytes}`.

    `folder` is what the paths are relative to. Raises one `DatasetError` that lists every problem
    with its split and class: files that are missing, empty or undecodable; an image (by digest)
    that is both in training or validation and in test, or in two classes. Some published lists
    have such images; we do not edit published splits, so this only warns. It also warns about
    files whose format is not the one in their name.
    """
    entries = [(split, item) for split in SPLITS for item in getattr(dataset, split)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = pool.map(lambda entry: examine(folder / entry[1].path), entries)
        results = list(tqdm(read, f"check {dataset.name}", len(entries), unit="image", leave=False))
    problems, repeated, digests, places = [], [], {}, defaultdict(list)
    misnamed = {}
    for (split, item), (digest, problem, kind) in zip(entries, results, strict=True):
        if problem:
            problems.append(f"{_place(split, item)}: {problem}")
        else:
            if _is_misnamed(item.path, kind):
                misnamed[item.path] = kind
            digests[item.path] = digest
            places[digest].append((split, item))
    for found in places.values():
        splits = {split for split, _ in found}
        leaks = "test" in splits and len(splits) > 1
        if leaks or len({item.label for _, item in found}) > 1:
            where = "in training or validation and in test" if leaks else "in two classes"
            repeated.append(f"the same image is {where}: "
                            + "; ".join(_place(split, item) for split, item in found))
    if misnamed:
        path, kind = next(iter(misnamed.items()))
        warnings.warn(f"{dataset.name}: {len(misnamed)} images have another format than their "
                      f"names say, e.g. {path} is {kind}; they are read by their content (of "
                      "several pictures in one file, the first)", stacklevel=2)
    if repeated and dataset.published:
        warnings.warn(f"{dataset.name}: {len(repeated)} images of the published lists occur "
                      f"twice, e.g. {repeated[0]}", stacklevel=2)
    else:
        problems += repeated
    if problems:
        raise DatasetError(f"{len(problems)} problems with the images of {dataset.name} in "
                           f"{folder}; replace these files, or remove them from the split:\n"
                           + "\n".join(f"  {problem}" for problem in problems))
    return digests


def examine(path):
    """Return the digest of a file, what is wrong with it or None, and the image's format."""
    try:
        # reading a pipe or a device would never end
        if not stat.S_ISREG(path.stat().st_mode):
            return None, "it is not a file", None
        content = path.read_bytes()
    except FileNotFoundError:
        return None, "the file is missing", None
    except OSError as error:
        return None, f"the file cannot be read ({error.strerror})", None
    if not content:
        return None, "the file is empty (0 bytes)", None
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = image.format
        load_image(io.BytesIO(content))
    except UnidentifiedImageError:
        return None, "the file is not an image", None
    except Exception as error:  # PIL's decoders raise many types on damaged files
        return None, f"the file cannot be decoded ({error})", None
    return hashlib.sha256(content).hexdigest(), None, kind


def _is_misnamed(path, kind):
    """Does the image's format differ from the one in its file extension, if that names one?"""
    expected = Image.registered_extensions().get(PurePath(path).suffix.lower(), kind)
    return kind != expected and (kind, expected) != ("MPO", "JPEG")  # as some cameras write it


def _place(split, item):
    return f"{split}, class {item.class_name!r}, {item.path}"
