"""Dual-view prompt tuning (E2MIM): learned and written prompts as two views of a class's text.

Zhang, *Generalizable Prompt Tuning for Vision-Language Models*, 2024. Re-implemented without the
paper's text. Its abstract says that the mutual information of the two views is maximised; a summary
names a learnable estimator of it, class-wise visual Mixup, whose features it relates to the
prompts, and a fusion of the views. All equations and constants are inferred.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..class_texts import view_features, view_texts
from ..clip.text import TextEncoder
from ..clip.text_features import DescriptionFeatures
from ..params import Params, Setting
from ..params.methods.dualview import DualViewVariant
from ..task import Task
from .augmentation import Mixup, Support
from .coop import CoOp
from .losses import Batch, weighted_sum
from .mutual_information import BOUNDS


class Critic(nn.Module):
    """Bilinear critics u(x, y) = x . (1 + M) y of R runs; M [R, d, d] is learned, from 0.

    At first they are cosines. Scores are divided by a temperature outside.
    """

    def __init__(self, n_runs: int, dim: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(n_runs, dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (1 + M) [R, N, d] of features [R, N, d] or [N, d], to be multiplied by y."""
        return x + x @ self.matrix


class DualView(CoOp):
    """R runs of the dual-view method that train side by side.

    With s_c the class feature of the learned prompt (the soft view S), h_c that of the written one
    (the hand-crafted view H), and x an image feature mixed by Mixup, training minimises
        CE(x . s / tau) - lambda_mi I(S; H) - lambda_image [I(X; S) + I(X; H)] / 2,
    where each I is a lower bound by a learned critic (see `mutual_information`). One critic scores
    pairs of views at temperature tau_mi, the other one pairs of image and view at the model's.

    The prediction fuses the views to w_c = norm((1 - a) s_c + a h_c) and takes the class to which
    the images' critic gives the highest score: the best critic is log p(x | c) / p(x), so that is
    Bayes' rule. It is stored for that, and knows no class, so new classes have it too. Unless
    `critic_predicts`, the highest cosine is taken, and the critic only guided.

    `hard` are the hand-crafted views of the classes as `DescriptionFeatures`, one text or several
    each; `support` the images of every run, of which Mixup takes partners. Neither may hold
    anything of other classes.
    """

    def __init__(self, encoder: TextEncoder, class_names: list[str], variant: DualViewVariant,
                 logit_scale: float, *, contexts: Tensor | None = None, seeds: Sequence[int] = (),
                 hard: DescriptionFeatures | None = None, support: Support | None = None) -> None:
        super().__init__(encoder, class_names, variant.context, logit_scale, contexts=contexts,
                         seeds=seeds)
        self.variant = variant
        self.hard: Any = hard  # whatever needs it is not called without
        if support is not None:
            support = Support(*(tensor.to(encoder.device) for tensor in support))
        self.mixup = Mixup(variant.mixup, support, len(class_names), seeds, variant.mixup_alpha)
        learned = {"of_views": variant.lambda_mi, "of_images": variant.lambda_image}
        self.critics = nn.ModuleDict({
            pairs: Critic(len(self.contexts), encoder.dim).to(encoder.device)
            for pairs, weight in learned.items() if weight and variant.critic == "bilinear"})
        # what only training needs is not stored
        self.discarded = ("critics.of_views",
                          *["critics.of_images"] * (not variant.critic_predicts))

    def criticised(self, pairs: str, x: Tensor) -> Tensor:
        """Return x (1 + M) of one of the critics, or x where it is not learned."""
        return self.critics[pairs](x) if pairs in self.critics else x

    def view_information(self, soft: Tensor) -> Tensor:
        """Return the bound [R] on I(S; H) of the soft view [R, C, d]: X is one of the C classes.

        Y is one of the K texts of a class, with its weight within the class.
        """
        texts, weights = self.hard.features.flatten(0, 1), self.hard.weights.flatten()
        scores = self.criticised("of_views", soft) @ texts.mT / self.variant.tau_mi
        n_classes, n_texts = self.hard.weights.shape
        own = torch.eye(n_classes, device=texts.device).repeat_interleave(n_texts, dim=1)
        true, chance = own * weights / n_classes, weights.expand_as(own) / n_classes**2
        return BOUNDS[self.variant.estimator](scores, true, chance)

    def image_information(self, images: Tensor, shares: Tensor, classes: Tensor) -> Tensor:
        """Return the bound [R] on I(X; S) or I(X; H) of images [R, B, d], classes [R, C, d] or
        [C, d].

        A mixed image is a true pair with its classes, in their shares [R, B, C]; classes are
        equally frequent.
        """
        scores = self.logits(self.criticised("of_images", images), classes)
        chance = torch.full_like(shares[0], 1 / shares[0].numel())
        return BOUNDS[self.variant.estimator](scores, shares / shares.shape[1], chance)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Return the parts of the loss that weigh more than 0, `{name: [R]}` without weights."""
        soft = self.class_features()
        images, shares = self.mixup(batch.features, batch.labels)
        log_p = self.logits(images, soft).log_softmax(dim=-1)
        terms = {"ce": -(shares * log_p).sum(dim=-1).mean(dim=-1)}
        if self.variant.lambda_mi:
            terms["views"] = -self.view_information(soft)
        if self.variant.lambda_image:
            terms["images"] = -(self.image_information(images, shares, soft)
                                + self.image_information(images, shares, self.hard.mean)) / 2
        return terms

    def loss(self, batch: Batch) -> Tensor:
        """Return CE - lambda_mi I(S; H) - lambda_image [I(X; S) + I(X; H)] / 2 [R] on a batch."""
        weights = {"ce": 1.0, "views": self.variant.lambda_mi, "images": self.variant.lambda_image}
        return weighted_sum(self.terms(batch), weights)

    def fused_classes(self, variant: DualViewVariant) -> Tensor:
        """Return norm((1 - a) s + a h) [R, C, d], the views fused as a variant fuses them."""
        classes, a = self.class_features(), variant.ensemble_a
        return F.normalize((1 - a) * classes + a * self.hard.mean, dim=-1) if a else classes

    @torch.no_grad()
    def predict(self, features: Tensor, variant: DualViewVariant | None = None) -> Tensor:
        """Return the predicted classes [R, N] of normalised image features [N, d].

        Another variant, trained the same, can be given to predict as it does. A share of the
        hand-crafted view needs `hard`.
        """
        variant = variant or self.variant
        classes = self.fused_classes(variant)
        if variant.critic_predicts:
            features = self.criticised("of_images", features)
        return self.logits(features, classes).argmax(dim=-1)


def texts(task: Task) -> dict[str, dict[str, list[str]]]:
    """Return the texts of every hand-crafted view."""
    return view_texts(task)


def build(task: Task, setting: Setting, class_names: list[str], draws: Tensor) -> DualView:
    """Return the untrained dual-view method of a setting, one run per seed."""
    hard = view_features(task, setting.variant.hard_view).of(slice(len(class_names)))
    return DualView(task.encoder, class_names, setting.variant, task.logit_scale,
                    seeds=task.params.seeds, hard=hard, support=Support.of(task.pack.train, draws))


def restore(task: Task, setting: Setting, learned: dict[str, Tensor], subset: str = "all",
            onto: Task | None = None) -> DualView:
    """Return what was learned, around the class names of a subset of `onto`, or of the task."""
    onto = onto or task
    hard = view_features(onto, setting.variant.hard_view).of(onto.classes_of(subset))
    model = DualView(task.encoder, onto.names_of(subset), setting.variant, task.logit_scale,
                     contexts=learned["contexts"], seeds=task.params.seeds, hard=hard)
    model.load_state_dict(learned, strict=False)  # its critics; not the encoder
    for pairs in [pairs for pairs in model.critics if f"critics.{pairs}.matrix" not in learned]:
        del model.critics[pairs]  # it was discarded after training
    return model


def predictions(params: Params, setting: Setting, model: DualView,
                inputs: list[Tensor]) -> dict[str, Tensor]:
    """Return the predictions [R, N] of the variant and of those trained the same.

    `{label: [R, N]}`. The latter, of the main variants alone, need no training of their own.
    """
    block, (features,) = params.dualview, inputs
    variants = [setting.variant]
    if setting.variant in (block.few_shot, block.base_to_new):
        variants += block.also_scored(setting.variant)
    return {variant.label: model.predict(features, variant) for variant in variants}
