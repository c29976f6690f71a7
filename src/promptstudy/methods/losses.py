"""What losses are computed from, and those that several methods share."""

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F


class Batch(NamedTuple):
    """The input of a method's loss: one batch of images for each of R runs."""

    index: torch.Tensor  # type: ignore[assignment] # [R, B] index of each image in the training images
    features: torch.Tensor  # [R, B, d] normalised global features
    labels: torch.Tensor  # [R, B]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy [R] of each run: logits [R, B, C], labels [R, B]."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view_as(labels).mean(dim=-1)


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Return the sum of a loss's terms, `{name: [R]}`, each times its weight."""
    return cast(Tensor, sum(weights[name] * term for name, term in terms.items()))
