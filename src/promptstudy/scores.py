"""Rows of results: scores of predictions on test images, and of hand-crafted prompts.

Test labels are read only here and in `evaluation`.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from .clip.backbone import Backbone
from .clip.text import TextEncoder
from .clip.text_features import ensemble_templates
from .datasets.packs import FeaturePack
from .files import json_sha256
from .metrics import quarters, typicality
from .params import Params
from .task import Task


class Scores(Task):
    """A Task whose test images are scored.

    `rows` collects one dict per run and subset: the columns of `results.COLUMNS`, and `right` and
    `images` for `outcomes.write_outcomes`.
    """

    def __init__(self, params: Params, pack: FeaturePack, backbone: Backbone, encoder: TextEncoder,
                 source: Self | None = None) -> None:
        super().__init__(params, pack, backbone, encoder, source)
        self.features = F.normalize(pack.test.features, dim=-1)
        self.labels = pack.test.labels
        self.halves = {"base": self.labels < self.n_base, "new": self.labels >= self.n_base}
        self.rows: list[dict[str, Any]] = []

    def images_of(self, subset: str) -> tuple[Tensor, Tensor]:
        """Return normalised features and labels of a subset; labels are relative to the subset."""
        if subset == "all":
            return self.features, self.labels
        mask = self.halves[subset]
        first = self.n_base if subset == "new" else 0
        return self.features[mask], self.labels[mask] - first

    def local_of(self, subset: str) -> Tensor:
        """Return the normalised local features [n, L, d] of a subset's images."""
        return self.local if subset == "all" else self.local[self.halves[subset]]

    @functools.cached_property
    def local(self) -> Tensor:
        """The normalised local features of all test images."""
        return F.normalize(self.pack.test.local, dim=-1)

    def add(self, protocol: str, method: str, variant: str, shots: int, seed: int, subset: str,
            predicted: Tensor) -> None:
        """Add a row: top-1 accuracy of the predictions for a subset's images."""
        labels = self.images_of(subset)[1]
        images = slice(None) if subset == "all" else self.halves[subset]
        self.add_right(protocol, method, variant, shots, seed, subset, "top1", predicted == labels,
                       self.identity(images))

    def add_elsewhere(self, protocol: str, method: str, variant: str, shots: int, seed: int,
                      target: "Scores", predicted: Tensor, parts: dict[str, Any]) -> None:
        """Add a row for each of `parts` {subset: indices} of the images of another Evaluation."""
        for subset, images in parts.items():
            self.add_right(protocol, method, variant, shots, seed, subset, "top1",
                           predicted[images] == target.labels[images], target.identity(images))

    def add_right(self, protocol: str, method: str, variant: str, shots: int, seed: int,
                  subset: str, metric: str, right: Tensor, images: str) -> None:
        """Add a row: the share, in percent, of the test images that a run gets right.

        right: a Boolean tensor [n]; images: which images these are, as `identity` says it.
        """
        self.rows.append({
            "suite": self.params.suite, "dataset": self.name, "backbone": self.backbone.name,
            "protocol": protocol, "method": method, "variant": variant, "shots": shots,
            "seed": seed, "subset": subset, "metric": metric,
            "value": 100 * right.double().mean().item(), "n_test": len(right),
            "right": right.numpy(), "images": images})

    def identity(self, images: Any) -> str:
        """Return a digest of some test images (a mask, indices or a slice), in their order.

        It is made of their SHA-256, so shifted images have that of the images they come from.
        """
        indices = self.all_indices[images].tolist()
        return json_sha256([self.pack.test.digests[index] for index in indices])[:16]

    @functools.cached_property
    def all_indices(self) -> Tensor:
        """The indices of all test images."""
        return torch.arange(len(self.labels))

    def add_quarters(self, method: str, variant: str, shots: int, seed: int,
                     predicted: Tensor) -> None:
        """Add a row for each quarter of the test images by typicality: 1 is the least typical."""
        for quarter in range(1, 5):
            images = self.quarter == quarter
            if images.any():
                self.add_right("typicality", method, variant, shots, seed, f"quarter {quarter}",
                               "top1", predicted[images] == self.labels[images],
                               self.identity(images))

    @functools.cached_property
    def quarter(self) -> Tensor:
        """The quarter of every test image by its typicality."""
        return quarters(typicality(self.features, self.labels, self.pack.train))

    def hand_crafted(self, methods: Sequence[str] = ("zero_shot", "ensemble")) -> None:
        """Evaluate zero-shot CLIP and the prompt ensemble, or one of them, in both protocols.

        The prompt ensemble is CoOp's seven templates and the dataset's own one.
        """
        for protocol, subset in (("few_shot", "all"), ("base_to_new", "base"),
                                 ("base_to_new", "new")):
            for method, variant, predicted in self.hand_crafted_predictions(subset, methods):
                self.add(protocol, method, variant, 0, 0, subset, predicted)
                if (method, subset) == ("zero_shot", "all"):
                    self.add_quarters(method, variant, 0, 0, predicted)

    def hand_crafted_predictions(self, subset: str = "all",
                                 methods: Sequence[str] = ("zero_shot", "ensemble"),
                                 ) -> Iterator[tuple[str, str, Tensor]]:
        """Yield method, variant and the predicted classes [n] of each hand-crafted classifier."""
        own = self.template
        kinds = {"zero_shot": ("own template", [own]),
                 "ensemble": ("7 templates and own", ensemble_templates(own))}
        for method in methods:
            variant, templates = kinds[method]
            classes = self.encoder.encode_templates(self.names_of(subset), templates)
            yield method, variant, (self.images_of(subset)[0] @ classes.T).argmax(dim=-1)
