"""Feature packs: a dataset as the features of its images, in one verified file.

Image towers are frozen, so a dataset can be shipped as features. Global features are stored as
float16. Local features and augmented views are stored as int8 with one bfloat16 scale per block of
at most 32 values, which bounds the error of any vector: the rounding error of a value is at most
half its block's scale, itself 1/127 of the block's largest magnitude, so the relative error of a
vector is at most sqrt(32) / 254 and 1 - cosine at most 2.5e-4; with uniform rounding errors it is
below 8.3e-5, and for CLIP's features about 1e-5. A pack gives the same numbers whether it was just
extracted or loaded, because both are read from the stored form.
"""

import math
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..errors import DatasetError
from ..files import load_tensors, save_tensors, tensors_sha256
from .items import SPLITS, Dataset
from .subsets import few_shot_draw


class PackSplit:
    """The images of one split: features [n, d] (float32, un-normalised) and labels [n] (int64).

    `local` [n, L, d] and `views` [n, V, d] (training images only) are expanded on access;
    `paths` are relative to the images folder and `digests` are the images' SHA-256.
    """

    def __init__(self, tensors: dict[str, Tensor], split: str) -> None:
        self._stored = {name.removeprefix(f"{split}."): tensor for name, tensor in tensors.items()
                        if name.startswith(f"{split}.")}
        self.features = self._stored["features"].float()
        self.labels = self._stored["labels"]

    def __len__(self):
        return len(self.labels)

    @property
    def local(self) -> Tensor:
        return expand(self._stored["local"], self._stored["local_scale"])

    @property
    def views(self) -> Tensor:
        return expand(self._stored["views"], self._stored["views_scale"])

    @cached_property
    def paths(self) -> list[str]:
        text = os.fsdecode(self._stored["paths"].numpy().tobytes())
        return text.split("\0") if len(self) else []

    @cached_property
    def digests(self) -> list[str]:
        return [row.numpy().tobytes().hex() for row in self._stored["digests"]]


class FeaturePack:
    """The features of a dataset: `train`, `val` and `test` are `PackSplit`s.

    `tensors` is the stored form and `provenance` records what it was made from: dataset, backbone,
    image_fingerprint, class_names, images (a SHA-256 over paths, labels, splits and digests),
    views and local_grid.
    """

    def __init__(self, tensors: dict[str, Tensor], provenance: dict[str, Any]) -> None:
        self._tensors = tensors
        self.provenance = provenance
        self.class_names = provenance["class_names"]
        self.train, self.val, self.test = (PackSplit(tensors, split) for split in SPLITS)

    def draw(self, shots: int, seed: int) -> tuple[Tensor, ...]:
        """Return the training and validation images of one few-shot run, as two index tensors.

        They are those of `few_shot_draw` over all images of the dataset, whether the pack has all
        training images or only what the suite draws. Raises `DatasetError` for any other draw.
        """
        if not any(name.startswith("draw.") for name in self._tensors):
            return few_shot_draw(self.train.labels, self.val.labels, shots, seed)
        try:
            return tuple(self._tensors[f"draw.{shots}.{seed}.{split}"] for split in SPLITS[:2])
        except KeyError:
            raise DatasetError(
                f"the features of {self.provenance['dataset']} cover only the images that the "
                f"suite drew when they were made, not with {shots} shots and seed {seed}; make "
                f"them again (`dvc repro -f features@{self.provenance['dataset']}`)") from None

    def save(self, path: Path) -> None:
        """Write the pack to one safetensors file, whole or not at all."""
        save_tensors(path, self._tensors, self.provenance)

    @classmethod
    def load(cls, path: Path, expected: dict[str, Any] | None = None) -> Self:
        """Return the pack stored at `path`; `expected`: what its `provenance` must hold.

        Raises `FileNotFoundError` or `DamagedFile` naming the entry that differs.
        """
        return cls(*load_tensors(path, expected))


def own_labels(pack: FeaturePack) -> FeaturePack:
    """Give every image of a captioned dataset's pack a label of its own, its index in its split.

    Captions belong to images, so each image becomes a class, described by its captions.
    """
    for split in (pack.train, pack.val, pack.test):
        split.labels = torch.arange(len(split))
    return pack


def validation_or_training(pack: FeaturePack) -> tuple[PackSplit, str]:
    """Return `(split, "validation")` of a pack, or `(split, "training")` if that has no images.

    In the second case it prints a line that says so, since training images are not a fair measure
    of what was trained on them.
    """
    if len(pack.val):
        return pack.val, "validation"
    print("no validation images: shown on training images")
    return pack.train, "training"


def listing(dataset: Dataset, digests: dict[str, str]) -> dict[str, Tensor]:
    """Return the stored form of a dataset's labels, paths and digests, `{"train.labels": ...}`."""
    tensors = {}
    for split in SPLITS:
        items = getattr(dataset, split)
        tensors[f"{split}.labels"] = torch.tensor([item.label for item in items],
                                                  dtype=torch.int64)
        # NUL is the one character that no path can have
        tensors[f"{split}.paths"] = _bytes(os.fsencode("\0".join(item.path for item in items)))
        tensors[f"{split}.digests"] = _bytes(
            b"".join(bytes.fromhex(digests[item.path]) for item in items)).view(-1, 32)
    return tensors


def images_sha256(listed: dict[str, Tensor]) -> str:
    """Return the SHA-256 over all images of a `listing`, their order and labels."""
    return tensors_sha256(listed)


def compact(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return `(int8 values, bfloat16 scales)` of vectors [..., d], one scale per block."""
    blocks = values.float().unflatten(-1, (-1, math.gcd(values.shape[-1], 32)))
    scale = (blocks.abs().amax(-1) / 127).bfloat16()
    # values are divided by the rounded scale, so that rounding it costs no precision
    divisor = torch.where(scale > 0, scale, 1).float()[..., None]
    return (blocks / divisor).round().clamp(-127, 127).to(torch.int8).flatten(-2), scale


def expand(stored: Tensor, scale: Tensor) -> Tensor:
    """Return the float32 vectors that `compact` stored."""
    return (stored.unflatten(-1, (scale.shape[-1], -1)) * scale.float()[..., None]).flatten(-2)


def _bytes(content):
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else \
        torch.empty(0, dtype=torch.uint8)
