"""AAPE: a language model's sentences, distilled into a prompt embedding made from the image.

Huang, Seto, Abnar, Grangier, Jaitly and Susskind, *Aggregate-and-Adapt Natural Language Prompts for
Downstream Generalization of CLIP*, NeurIPS 2024. Re-implemented from the abstract and a caption,
which name the parts (attention over the prompts, a CLIP reward, a generator that is distilled and
trained for the task, and is all that is kept); layers, equations and constants are inferred.
"""

import torch
from torch import nn
from torch.nn import functional as F

from . import aggregators
from .losses import cross_entropy
from .projections import PROJECTIONS
from .stacked import MLP


class AAPE(nn.Module):
    """R runs of AAPE that train side by side: generator h, projection and aggregator A.

    With f an image's normalised feature of size `dim` and E_k its K reference prompts,
        summary  p^a = A(f, {E_k})                        (see `aggregators`),
        AAPE     p = norm(h(f)), or norm(f + h(f)) with h = 0 at first,  h a perceptron,
    and training minimises L_task + lambda D(p, p^a) + mu L_reward(f, p^a), with D the squared
    distance, in which p^a is held fixed: the teacher is not drawn to its pupil. A subclass says
    what the task is.

    `seeds` [R] initialise the runs. `prompts` are the reference prompts, `DescriptionFeatures` with
    one set a label; without them there is no aggregator, and all but `loss` works.
    """

    def __init__(self, dim, variant, logit_scale, seeds, prompts=None):
        super().__init__()
        self.variant, self.logit_scale = variant, logit_scale
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.generator = MLP(generators, dim, variant.gen_hidden or dim,
                             zero=variant.gen_residual)
        self.projection = PROJECTIONS[variant.proj](generators, dim)
        if prompts is not None:
            self.prompts = prompts.first(variant.k)
            self.aggregator = _aggregator(generators, dim, variant)
            self.to(prompts.features.device)

    def restore(self, learned):
        """Take the learned tensors `{parameter: [R, ...]}` of the parts that are here; return self.

        What belongs to an absent aggregator is left alone.
        """
        self.load_state_dict({name: learned[name] for name in self.state_dict()})
        return self

    def generate(self, features):
        """Return the AAPE p [R, B, d] of normalised image features [R, B, d]."""
        generated = self.generator(features)
        if self.variant.gen_residual:
            generated = generated + features
        return F.normalize(generated, dim=-1)

    def summary(self, batch):
        """Return p^a [R, B, d] of a batch from the reference prompts of its labels."""
        return self.aggregator(batch.features, self.prompts.features[batch.labels],
                               self.prompts.weights[batch.labels])

    def distillation(self, generated, summary):
        """Return D(p, p^a) = ||p - p^a||^2 [R]; no gradient flows to p^a."""
        return (generated - summary.detach()).square().sum(dim=-1).mean(dim=-1)

    def reward_loss(self, features, summary):
        """Return L_reward(f, p^a) [R], what CLIP finds wrong with a summary of its image.

        `cos`: 1 - f . p^a; `nce`: the cross-entropy of the right summary among the batch's.
        """
        match self.variant.reward:
            case "cos":
                return (1 - (features * summary).sum(dim=-1)).mean(dim=-1)
            case "nce":
                own = torch.arange(features.shape[1], device=features.device)
                return cross_entropy(self.logit_scale * features @ summary.mT,
                                     own.expand(len(features), -1))

    def terms(self, batch):
        """Return the parts of the loss, `{name: [R]}` without their weights."""
        generated, summary = self.generate(batch.features), self.summary(batch)
        return {"task": self.task_loss(batch, generated),
                "distillation": self.distillation(generated, summary),
                "reward": self.reward_loss(batch.features, summary)}

    def loss(self, batch):
        """Return L_task + lambda D(p, p^a) + mu L_reward(f, p^a) [R] of each run on its batch."""
        weights = {"task": 1, "distillation": self.variant.lambda_distill,
                   "reward": self.variant.mu}
        return sum(weights[name] * term for name, term in self.terms(batch).items())


def _aggregator(generators, dim, variant):
    match variant.aggregator:
        case "attention":
            return aggregators.Attention(generators, dim, variant.heads, variant.agg_values)
        case "mean":
            return aggregators.Mean()
        case "random":
            return aggregators.Random(generators)
        case "mlp":
            return aggregators.Perceptron(generators, dim)
