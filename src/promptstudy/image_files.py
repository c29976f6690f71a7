"""Image files of a user, as the features that a dataset's pack has of its images."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from .batches import Crops, chunks, encode_batch, next_batch, on_gpu
from .clip.backbone import Backbone
from .clip.image_features import tower_input
from .datasets.folders import IMG_EXTENSIONS
from .datasets.images import examine
from .datasets.items import Item
from .datasets.packs import PackSplit
from .errors import DatasetError
from .features import joined, stored_form
from .params import FeatureParams

PER_PROCESS = 64  # images that are worth a process of their own to decode them


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Return the paths of image files: those given, and those in the folders given, sorted.

    Folders are searched at every depth; hidden files and files of other kinds in them are left
    out. Raises `DatasetError` for a path that does not exist and for a folder without images.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise DatasetError(f"{path} does not exist; give image files or folders of images")
        inside = sorted(file for file in path.rglob("*") if file.is_file()
                        and file.suffix.lower() in IMG_EXTENSIONS
                        and not any(part.startswith(".") for part in file.relative_to(path).parts))
        if path.is_dir() and not inside:
            raise DatasetError(f"{path} holds no images (files whose names end in "
                               f"{', '.join(IMG_EXTENSIONS)})")
        found += inside if path.is_dir() else [path]
    return found


def encode_files(paths: Sequence[Path], backbone: Backbone, settings: FeatureParams) -> PackSplit:
    """Return the features of image files, a `PackSplit` without labels, in the order of the paths.

    settings: the suite's `FeatureParams`. The numbers are those of a pack, which stores them
    rounded; another batch size, or a GPU, changes their last digits. Raises `DatasetError` listing
    every file that is not an image or cannot be decoded.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = list(pool.map(examine, paths))
    faults = [f"{path}: {problem}" for path, (_, problem, _) in zip(paths, read, strict=True)
              if problem]
    if faults:
        raise DatasetError(f"{len(faults)} of {len(paths)} images cannot be used; remove them:\n"
                           + "\n".join(f"  {fault}" for fault in faults))
    items = [Item(str(path.absolute()), 0, "") for path in paths]
    digests = {item.path: digest for item, (digest, _, _) in zip(items, read, strict=True)}
    crops = Crops([(item, 0) for item in items], Path(), digests, backbone)
    workers = min(os.cpu_count() or 1, len(items) // PER_PROCESS)
    decoded = iter(DataLoader(crops, batch_size=None, num_workers=workers,
                              generator=torch.Generator()))
    parts = []
    with on_gpu(backbone.model.visual) as device:
        to_input = tower_input(backbone.model, device)
        for batch in chunks(items, settings.batch_size):
            images = next_batch(decoded, len(batch), device)
            parts.append(encode_batch(backbone.model, images, settings, to_input,
                                      device.type == "cuda"))
    stored = stored_form(joined(parts)) | {"labels": None}
    return PackSplit({f"test.{name}": tensor for name, tensor in stored.items()}, "test")
