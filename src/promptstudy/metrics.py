"""Metrics: accuracy, how typical an image is, and retrieval recall."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .datasets.packs import PackSplit

RANKS = (1, 5, 10)
CHUNK = 256  # queries ranked at once


def top1(predicted: Tensor, labels: Tensor) -> Tensor:
    """Return the share of correct predictions in percent, over images, not over classes."""
    return 100 * (predicted == labels).double().mean(dim=-1)


def top1_each(shares: Tensor, labels: Tensor) -> Tensor:
    """Return 100 for every image [N] whose highest share [N, C] is the true class's, else 0."""
    return 100.0 * (shares.argmax(dim=-1) == labels)


def typicality(features: Tensor, labels: Tensor, train: PackSplit) -> Tensor:
    """Return the cosine [N] of each image to the mean of its class's training images.

    features [N, d] and labels [N] are the images'; `train` is the pack's training split.
    """
    member = F.one_hot(train.labels).T.float()
    means = F.normalize(member @ F.normalize(train.features, dim=-1), dim=-1)
    return (F.normalize(features, dim=-1) * means[labels]).sum(dim=-1)


def quarters(values: Tensor) -> Tensor:
    """Return the quarter [N] of each value by its rank: 1 for the lowest, 4 for the highest."""
    return 1 + values.argsort(stable=True).argsort() * 4 // len(values)


def recalls(images: Tensor, texts: Tensor, image_labels: Tensor,
            text_labels: Tensor) -> dict[str, tuple[int, dict[int, Tensor]]]:
    """Return `{direction: (queries, {k: recall@k [R] in percent})}` for both directions.

    The arguments and errors are those of `match_ranks`. Recall@k is the share of queries with a
    match among the k best; queries without any match are left out.
    """
    found = match_ranks(images, texts, image_labels, text_labels)
    return {direction: (ranks.shape[1], {k: 100 * (ranks <= k).double().mean(dim=-1)
                                         for k in RANKS})
            for direction, (_, ranks) in found.items()}


def match_ranks(images: Tensor, texts: Tensor, image_labels: Tensor,
                text_labels: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return `{direction: (asked [N], ranks [R, n])}` for both directions.

    images: normalised features [R, N, d] of R runs; texts: [M, d]; an image and a text match if
    their labels [N] and [M] are equal, so an image may have several texts and a text several
    images. `asked` says which queries have a match; `ranks` are those n queries' ranks, from 1, of
    the best match. A tie counts against the query. Raises `ValueError` when nothing matches.
    """
    texts = texts.expand(len(images), -1, -1)
    directions = {"image_to_text": (images, texts, image_labels, text_labels),
                  "text_to_image": (texts, images, text_labels, image_labels)}
    found = {}
    for direction, (queries, answers, own, others) in directions.items():
        asked = torch.isin(own, others)
        if not asked.any():
            raise ValueError("no image and no text have the same label")
        found[direction] = asked, best_ranks(queries[:, asked], answers, own[asked], others)
    return found


def best_ranks(queries: Tensor, answers: Tensor, query_labels: Tensor,
               answer_labels: Tensor) -> Tensor:
    """Return the rank [R, N], from 1, of the best matching answer to each query.

    The answers [R, M, d] are ranked by inner product with the queries [R, N, d]; wrong answers that
    score at least as high as the best right one come before it.
    """
    ranks = []
    for part, labels in zip(queries.split(CHUNK, dim=1), query_labels.split(CHUNK), strict=True):
        scores = part @ answers.mT
        right = labels[:, None] == answer_labels
        best = scores.masked_fill(~right, -torch.inf).amax(dim=-1, keepdim=True)
        ranks.append(1 + ((scores >= best) & ~right).sum(dim=-1))
    return torch.cat(ranks, dim=1)
