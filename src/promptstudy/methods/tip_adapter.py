"""Tip-Adapter: zero-shot CLIP and the few-shot images as a cache, without training.

Zhang et al., *Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification*, ECCV 2022.
Their cache keys are means over ten augmented views; here each is the image itself.
"""

import torch
from torch import Tensor

ALPHAS, BETAS = torch.linspace(0.1, 3, 10), torch.linspace(0.1, 7, 10)  # the paper's ranges
CHUNK = 4096  # images at once: each meets every key
DEFAULT = 1.0, 5.5  # the paper's (alpha, beta), where there is no validation image to choose on


def closeness(cosines: Tensor, key_labels: Tensor, n_classes: int, beta: float) -> Tensor:
    """Return the votes [N, C] of the cache: sum over a class's keys of exp(-beta (1 - f . k)).

    cosines [N, K] are those of image features and keys; key_labels [K].
    """
    votes = cosines.new_zeros(len(cosines), n_classes)
    return votes.index_add_(1, key_labels, torch.exp(-beta * (1 - cosines)))


def scores(text_scores: Tensor, features: Tensor, keys: Tensor, key_labels: Tensor, alpha: float,
           beta: float) -> Tensor:
    """Return the scores [N, C]: those of the texts (logit scale times cosine) + alpha votes.

    features [N, d] and keys [K, d] are normalised image features; key_labels [K].
    """
    votes = torch.cat([closeness(part @ keys.T, key_labels, text_scores.shape[1], beta)
                       for part in features.split(CHUNK)])
    return text_scores + alpha * votes


def choose(text_scores: Tensor, features: Tensor, labels: Tensor, keys: Tensor,
           key_labels: Tensor) -> tuple[float, float]:
    """Return the `(alpha, beta)` of the grid with the highest accuracy on validation images.

    Of equals it is the first, in the order of beta, then alpha; without images it is `DEFAULT`.
    """
    if not len(labels):
        return DEFAULT
    best, found, cosines = -1.0, DEFAULT, features @ keys.T
    for beta in BETAS.tolist():
        votes = closeness(cosines, key_labels, text_scores.shape[1], beta)
        for alpha in ALPHAS.tolist():
            right = ((text_scores + alpha * votes).argmax(dim=1) == labels).double().mean().item()
            if right > best:
                best, found = right, (alpha, beta)
    return found
