"""CoOp: the context words of a prompt, learned as vectors (Zhou et al., IJCV 2022)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip.prompts import PromptLayout, initial_contexts
from ..clip.text import TextEncoder
from ..params import ContextParams, Setting
from ..task import Task
from .losses import Batch, cross_entropy


class CoOp(nn.Module):
    """R runs of CoOp that train side by side; the contexts are all that is learned (section 3.2).

    With t_i the prompt of class i, g the text encoder, f an image feature and tau the temperature:
    p(y = i | x) = exp(cos(g(t_i), f) / tau) / sum_j exp(cos(g(t_j), f) / tau).

    variant: `ContextParams`. `contexts` [R, M, D] or [R, C, M, D] are the starting point; if None,
    they are drawn from `seeds`. Learned contexts shared by all classes can be given other
    class names (base-to-new, cross-dataset); class-specific ones cannot. Raises `ValueError` for
    contexts that do not fit.
    """

    reads_local = False  # does `predict` want local image features too?

    def __init__(self, encoder: TextEncoder, class_names: list[str], variant: ContextParams,
                 logit_scale: float, *, contexts: Tensor | None = None,
                 seeds: Sequence[int] = ()) -> None:
        super().__init__()
        self.encoder, self.logit_scale = encoder, logit_scale
        self.layout = PromptLayout(encoder, class_names, variant)
        if contexts is None:
            contexts = initial_contexts(encoder, self.layout, variant, seeds)
        self.layout.check(contexts)
        self.contexts = nn.Parameter(contexts.to(encoder.device, copy=True))

    def class_features(self) -> Tensor:
        """Return normalised text features [R, C, d] of the prompts."""
        return F.normalize(self.encoder(*self.layout(self.contexts)), dim=-1)

    def logits(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return class scores [R, B, C] of normalised image features [R, B, d] or [B, d].

        classes: normalised class features [R, C, d] or [C, d].
        """
        return self.logit_scale * features @ classes.mT

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy [R] of each run on its batch."""
        return cross_entropy(self.logits(batch.features, self.class_features()), batch.labels)

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Return the predicted classes [R, N] of normalised image features [N, d]."""
        return self.logits(features, self.class_features()).argmax(dim=-1)


def texts(task: Task) -> None:
    """Return None: CoOp reads nothing but the class names."""


def build(task: Task, setting: Setting, class_names: list[str], draws: Tensor) -> CoOp:
    """Return the untrained CoOp of a setting, one run per seed."""
    return CoOp(task.encoder, class_names, setting.variant, task.logit_scale,
                seeds=task.params.seeds)


def restore(task: Task, setting: Setting, learned: dict[str, Tensor], subset: str = "all",
            onto: Task | None = None) -> CoOp:
    """Return the learned contexts around the class names of a subset of `onto`, or of the task."""
    return CoOp(task.encoder, (onto or task).names_of(subset), setting.variant, task.logit_scale,
                contexts=learned["contexts"])
