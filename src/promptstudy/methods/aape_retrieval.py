"""AAPE for retrieval: an image's feature, adapted by its AAPE, is what captions are ranked by.

Re-implemented from the abstract, which names the task; the equations are inferred.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .aape_core import AAPE
from .losses import Batch


class Retriever(AAPE):
    """AAPE that matches images and captions: v = norm((1 - s) f + s p) stands for f.

    The reference prompts of a label are its captions e_j. Training aligns both ways: with
    s_ij = v_i . e_j / tau over a batch's images i and all of their captions j, L_task is the mean
    of the cross-entropy over captions of each image and over images of each caption, the right
    ones, those of the same label, sharing the target (InfoNCE with several positives).
    """

    def image_features(self, features: Tensor) -> Tensor:
        """Return v [R, N, d] of normalised image features [R, N, d]."""
        return F.normalize(self.projection(self.generate(features), features), dim=-1)

    def task_loss(self, batch: Batch, generated: Tensor) -> Tensor:
        """Return the symmetric contrastive loss [R] of the images and captions of a batch."""
        images = F.normalize(self.projection(generated, batch.features), dim=-1)
        captions, weights = (part[batch.labels].flatten(1, 2) for part in self.prompts)
        labels = batch.labels.repeat_interleave(self.prompts.weights.shape[1], dim=1)
        real = weights[:, None] > 0
        right = (batch.labels[:, :, None] == labels[:, None]) & real
        scores = self.logit_scale * images @ captions.mT
        of_images = _shared(scores.masked_fill(~real, -torch.inf), right, dim=2).mean(dim=-1)
        of_captions = _shared(scores, right, dim=1).sum(dim=-1) / real.sum(dim=(1, 2))
        return (of_images + of_captions) / 2


def _shared(scores, right, dim):
    """Cross-entropies along `dim` whose target is spread evenly over the right ones; 0 for none."""
    shares = scores.log_softmax(dim=dim).masked_fill(~right, 0)
    return -shares.sum(dim=dim) / right.sum(dim=dim).clamp(min=1)
