"""AAPE: a language model's sentences, distilled into a prompt embedding made from the image.

Huang, Seto, Abnar, Grangier, Jaitly and Susskind, *Aggregate-and-Adapt Natural Language Prompts for
Downstream Generalization of CLIP*, NeurIPS 2024. Re-implemented from the abstract and a caption,
which name the parts (attention over the prompts, a CLIP reward, a generator that is distilled and
trained for the task, and is all that is kept); layers, equations and constants are inferred.
"""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip.text_features import DescriptionFeatures
from ..params.methods.aape import AAPEVariant
from . import aggregators
from .losses import Batch, weighted_sum
from .projections import PROJECTIONS
from .reference_prompts import centred
from .stacked import MLP


class AAPE(nn.Module):
    """R runs of AAPE that train side by side: generator h, projection and aggregator A.

    With f an image's normalised feature of size `dim` and E_k its K reference prompts, without what
    all prompts have in common (see `centred`),
        summary  p^a = A(f, {E_k})     (see `aggregators`),
        AAPE     p = norm(f + h(f))    with h a perceptron, 0 at first,
    and training minimises L_task + lambda ||p - p^a||^2 + mu (1 - f . p^a). The last is CLIP's
    reward for the summary. In the distance p^a is held fixed: the teacher is not drawn to its
    pupil. A subclass says what the task is.

    `seeds` [R] initialise the runs. `prompts` are the reference prompts, `DescriptionFeatures` with
    one set per label; without them there is no aggregator, and all but `loss` works.
    """

    task_loss: Callable[[Batch, Tensor], Tensor]  # [R] of a batch and its AAPEs, by the subclass

    def __init__(self, dim: int, variant: AAPEVariant, logit_scale: float, seeds: Sequence[int],
                 prompts: DescriptionFeatures | None = None) -> None:
        super().__init__()
        self.variant, self.logit_scale = variant, logit_scale
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.generator = MLP(generators, dim, hidden=dim, zero=True)
        self.projection = PROJECTIONS[variant.projection](generators, dim, variant.share)
        if prompts is not None:
            self.prompts = prompts.first(variant.k)
            self.centred = centred(self.prompts)
            self.aggregator = _aggregator(generators, dim, variant)
            self.to(prompts.features.device)

    def restore(self, learned: dict[str, Tensor]) -> Self:
        """Take the learned tensors `{parameter: [R, ...]}` of the parts that are here; return self.

        What belongs to an absent aggregator is left alone.
        """
        self.load_state_dict({name: learned[name] for name in self.state_dict()})
        return self

    def generate(self, features: Tensor) -> Tensor:
        """Return the AAPE p [R, B, d] of normalised image features [R, B, d]."""
        return F.normalize(features + self.generator(features), dim=-1)

    def summary(self, batch: Batch) -> Tensor:
        """Return p^a [R, B, d] of a batch from the reference prompts of its labels."""
        return self.aggregator(batch.features, self.centred.features[batch.labels],
                               self.centred.weights[batch.labels])

    def distillation(self, generated: Tensor, summary: Tensor) -> Tensor:
        """Return ||p - p^a||^2 [R]; no gradient flows to p^a."""
        return (generated - summary.detach()).square().sum(dim=-1).mean(dim=-1)

    def reward_loss(self, features: Tensor, summary: Tensor) -> Tensor:
        """Return 1 - f . p^a [R], what CLIP finds wrong with a summary of its image."""
        return (1 - (features * summary).sum(dim=-1)).mean(dim=-1)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Return the parts of the loss, `{name: [R]}` without their weights."""
        generated, summary = self.generate(batch.features), self.summary(batch)
        return {"task": self.task_loss(batch, generated),
                "distillation": self.distillation(generated, summary),
                "reward": self.reward_loss(batch.features, summary)}

    def loss(self, batch: Batch) -> Tensor:
        """Return L_task + lambda ||p - p^a||^2 + mu (1 - f . p^a) [R] of each run on its batch."""
        weights = {"task": 1.0, "distillation": self.variant.lambda_distill,
                   "reward": self.variant.mu}
        return weighted_sum(self.terms(batch), weights)


def _aggregator(generators, dim, variant):
    match variant.aggregator:
        case "attention":
            return aggregators.Attention(generators, dim, variant.heads, variant.agg_values,
                                         variant.dropout)
        case "mean":
            return aggregators.Mean()
        case "random":
            return aggregators.Random(generators)
        case "mlp":
            return aggregators.Perceptron(generators, dim)
