"""Texts about classes, hand-crafted or descriptions, as features of the text tower."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CorpusError
from .text import TextEncoder

# CoOp's prompt ensemble, to which a dataset's own template is added.
ENSEMBLE = ("itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.",
            "a {} in a video game.", "art of the {}.", "a photo of the small {}.")


class DescriptionFeatures(NamedTuple):
    """Descriptions of C classes; classes with fewer than K sentences are padded with zeros."""

    features: torch.Tensor  # [C, K, d] normalised
    weights: torch.Tensor  # [C, K], the same for each sentence of a class, 0 for padding, sum 1

    @property
    def mean(self) -> Tensor:
        """The normalised mean description [C, d] of every class: a classifier without training."""
        return F.normalize((self.weights[..., None] * self.features).sum(dim=1), dim=-1)

    def of(self, classes: Any) -> "DescriptionFeatures":
        """Return the descriptions of the classes with these indices, in this order."""
        return DescriptionFeatures(self.features[classes], self.weights[classes])

    def first(self, count: int | None = None) -> "DescriptionFeatures":
        """Return the first `count` descriptions of every class, fewer if it has fewer; None: all.
        """
        weights = self.weights[:, :count]
        return DescriptionFeatures(self.features[:, :count],
                                   weights / weights.sum(dim=1, keepdim=True))


def encode_descriptions(encoder: TextEncoder, sentences: dict[str, list[str]],
                        class_names: list[str], progress: str | None = None) -> DescriptionFeatures:
    """Return the `DescriptionFeatures` of `{class name: [sentence, ...]}`, in the names' order.

    Raises `ValueError` naming the classes without a sentence.
    """
    missing = [name for name in class_names if not sentences.get(name)]
    if missing:
        raise CorpusError(f"no description of {', '.join(map(repr, missing))}")
    counts = torch.tensor([len(sentences[name]) for name in class_names], device=encoder.device)
    present = torch.arange(int(counts.max()), device=encoder.device) < counts[:, None]
    texts = [sentence for name in class_names for sentence in sentences[name]]
    features = torch.zeros(*present.shape, encoder.dim, device=encoder.device)
    features[present] = F.normalize(encoder.encode_text(texts, progress=progress), dim=-1)
    return DescriptionFeatures(features, present / counts[:, None])


def ensemble_templates(own: str) -> list[str]:
    """Return the templates of the prompt ensemble of a dataset whose template is `own`."""
    return sorted({*ENSEMBLE, own})  # a set: `own` may be one of the seven and must not count twice


def hand_crafted_texts(class_names: list[str], template: str,
                       sentences: dict[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    """Return `{view: {class name: [text, ...]}}`, the texts of every hand-crafted view.

    `template` is the dataset's own template, `ensemble` the prompt ensemble including it, and
    `descriptions` are the `sentences` of a language model.
    """
    views = {"template": [template], "ensemble": ensemble_templates(template)}
    return {view: filled(templates, class_names)
            for view, templates in views.items()} | {"descriptions": sentences}


def filled(templates: Iterable[str], class_names: Iterable[str]) -> dict[str, list[str]]:
    """Return every template filled with each class name, `{class name: [text, ...]}`."""
    return {name: [template.format(name) for template in templates] for name in class_names}


def shuffled(n_classes: int) -> Tensor:
    """Return a permutation of the classes that leaves none in place, always the same one."""
    ring = torch.randperm(n_classes, generator=torch.Generator().manual_seed(0))
    order = torch.empty_like(ring)
    order[ring] = ring.roll(1)
    return order
