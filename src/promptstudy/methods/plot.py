"""PLOT: several prompts per class, each matched with its part of an image (Chen et al., ICLR 2023).

Follows the paper's code, with two differences: local features come from the whole image, as feature
packs hold none of its random crops, and Sinkhorn's algorithm runs a fixed number of iterations.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip.prompts import PromptLayout, initial_contexts
from ..clip.text import TextEncoder
from ..params import Setting
from ..params.methods.plot import PLOTVariant
from ..task import Task
from .losses import Batch, cross_entropy
from .transport import sinkhorn

ITERATIONS = 20  # enough to fit plans to within 1e-4 of a weight
CHUNK = 256  # images that are predicted at once


class PLOT(nn.Module):
    """R runs of PLOT that train side by side; the N contexts of each run are all it learns.

    With T_cn the normalised text feature of class c in prompt n, F_l the L normalised local
    features of an image, and temperature tau, a class has the score (section 3.3)
        z^l_c = (1 - d_c) / tau = sum_ln P_ln F_l . T_cn / tau,
    where d_c = sum_ln P_ln (1 - F_l . T_cn) and P is the transport plan of the L local features to
    the N prompts at cost 1 - F_l . T_cn, found in every step and held fixed in the gradient.
    Training minimises CE(z^l); the prediction is the largest z^l.

    The paper's code adds, on ImageNet alone, the score of the global feature f (`with_global`):
        z^g_c = f . T_c / tau  with T_c the normalised mean of T_cn over n.

    variant: `PLOTVariant`. `contexts` [R, N, M, D] or [R, N, C, M, D] are the starting point; if
    None, they are drawn from `seeds`. `train_local` [n, L, d] are the local features of all
    training images, which the loss needs. Raises `PromptError` for contexts that do not fit.
    """

    reads_local = True  # `predict` wants local image features too

    def __init__(self, encoder: TextEncoder, class_names: list[str], variant: PLOTVariant,
                 logit_scale: float, *, contexts: Tensor | None = None, seeds: Sequence[int] = (),
                 train_local: Tensor | None = None, with_global: bool = False) -> None:
        super().__init__()
        self.encoder, self.variant, self.logit_scale = encoder, variant, logit_scale
        self.with_global = with_global
        self.layout = PromptLayout(encoder, class_names, variant.context)
        if contexts is None:
            contexts = initial_contexts(encoder, self.layout, variant.context, seeds,
                                        variant.n_prompts)
        self.layout.check(contexts)
        self.contexts = nn.Parameter(contexts.to(encoder.device, copy=True))
        self.train_local: Any = None  # local features [n, L, d] of all training images
        if train_local is not None:
            self.train_local = F.normalize(train_local.to(encoder.device), dim=-1)

    def class_features(self) -> tuple[Tensor, Tensor]:
        """Return normalised features of the classes [R, C, d] and of their prompts [R, C, N, d].

        The text encoder treats the N prompts as further runs. Their mean is taken before they are
        normalised, as in the paper's code.
        """
        features = self.encoder(*self.layout(self.contexts.flatten(0, 1)))
        features = features.unflatten(0, self.contexts.shape[:2]).transpose(1, 2)
        return F.normalize(features.mean(dim=2), dim=-1), F.normalize(features, dim=-1)

    def global_logits(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return z^g [R, B, C] of normalised image features [R, B, d] or [B, d]."""
        return self.logit_scale * features @ classes.transpose(-1, -2)

    def local_logits(self, local: Tensor, prompts: Tensor) -> Tensor:
        """Return z^l [R, B, C] of normalised local features [R, B, L, d]."""
        similarity = torch.einsum("rbld,rcnd->rbcln", local, prompts)
        return self.logit_scale * (self.local_plan(similarity) * similarity).sum(dim=(-2, -1))

    def local_plan(self, similarity: Tensor) -> Tensor:
        """Return the weight of each pair of local feature and prompt: similarities are [..., L, N].

        That is the transport plan, without a gradient; its weights add up to 1.
        """
        return sinkhorn(1 - similarity, self.variant.sinkhorn_eps, ITERATIONS)

    def scores(self, features: Tensor, local: Tensor, classes: Tensor, prompts: Tensor) -> Tensor:
        """Return class scores [R, B, C] of normalised image features: z^l, or z^l + z^g.

        features: [R, B, d] or [B, d], local: [R, B, L, d], the others as from `class_features`.
        """
        scores = self.local_logits(local, prompts)
        return scores + self.global_logits(features, classes) if self.with_global else scores

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy [R] of each run on its batch."""
        scores = self.scores(batch.features, self.train_local[batch.index], *self.class_features())
        return cross_entropy(scores, batch.labels)

    @torch.no_grad()
    def predict(self, features: Tensor, local: Tensor) -> Tensor:
        """Return the predicted classes [R, N] of normalised features [N, d] and [N, L, d]."""
        classes, prompts = self.class_features()
        return torch.cat([
            self.scores(part, of_part.expand(len(classes), *of_part.shape), classes,
                        prompts).argmax(dim=-1)
            for part, of_part in zip(features.split(CHUNK), local.split(CHUNK), strict=True)],
            dim=1)

    @classmethod
    def restore(cls, task: Task, setting: Setting, learned: dict[str, Tensor], subset: str = "all",
                onto: Task | None = None, **given: Any) -> Self:
        """Return the learned prompts around the class names of a subset of `onto`, or of the task.

        given: further arguments of the class.
        """
        return cls(task.encoder, (onto or task).names_of(subset), setting.variant,
                   task.logit_scale, contexts=learned["contexts"], **given)


def texts(task: Task) -> None:
    """Return None: PLOT reads nothing but the class names."""


def build(task: Task, setting: Setting, class_names: list[str], draws: Tensor) -> PLOT:
    """Return the untrained PLOT of a setting, one run per seed."""
    return PLOT(task.encoder, class_names, setting.variant, task.logit_scale,
                seeds=task.params.seeds, train_local=task.pack.train.local,
                with_global=_with_global(task))


def restore(task: Task, setting: Setting, learned: dict[str, Tensor], subset: str = "all",
            onto: Task | None = None) -> PLOT:
    """Return the learned prompts (see `PLOT.restore`).

    On other datasets, too, they predict by the scores that they were trained with.
    """
    return PLOT.restore(task, setting, learned, subset, onto, with_global=_with_global(task))


def _with_global(task):
    return task.name in task.params.plot.global_on
