"""ProGrad: only the part of a gradient that zero-shot CLIP agrees with (Zhu et al., ICCV 2023).

Follows the paper's code, in which the distillation has a temperature of T = 1.
"""

import torch
from torch import Tensor

from .hand_crafted import HeldToHandCrafted, restore, texts  # noqa: F401 -- see `table`
from .losses import Batch, cross_entropy


class ProGrad(HeldToHandCrafted):
    """R runs of ProGrad that train side by side; it predicts as CoOp does.

    g_ce is the gradient of the cross-entropy and g_kd that of the distillation loss
    -sum_c p_c log q_c, with p the hand-crafted prompt's class probabilities and q the learned
    one's. Where the two conflict, the part of g_ce that opposes g_kd is removed:
    g = g_ce - lambda min(0, g_ce . g_kd) g_kd / |g_kd|^2.

    variant: `ProGradVariant`; `hard` [C, d] are the normalised features of the hand-crafted prompt.
    """

    def loss(self, batch: Batch) -> Tensor:
        """Return a loss [R] whose value is the cross-entropy and whose gradient is ProGrad's g."""
        logits = self.logits(batch.features, self.class_features())
        task = cross_entropy(logits, batch.labels)
        teacher = self.logits(batch.features, self.hard).softmax(dim=-1)
        general = -(teacher * logits.log_softmax(dim=-1)).sum(dim=-1).mean(dim=-1)
        g_ce, g_kd = (torch.autograd.grad(loss.sum(), self.contexts, retain_graph=True)[0]
                      for loss in (task, general))
        g = without_conflict(g_ce, g_kd, self.weight)
        linear = (self.contexts * g).flatten(1).sum(dim=1)
        return task.detach() + (linear - linear.detach())


def without_conflict(task: Tensor, general: Tensor, weight: float) -> Tensor:
    """Return the gradients `task` [R, ...] minus `weight` times their part that opposes `general`.

    Each run is projected on its own, all of its context vectors together.
    """
    g, direction = task.flatten(1), general.flatten(1)
    against = (g * direction).sum(dim=1).clamp(max=0)
    squared = direction.square().sum(dim=1).clamp(min=torch.finfo(direction.dtype).tiny)
    return (g - weight * (against / squared)[:, None] * direction).view_as(task)


build = ProGrad.build
