"""AAPE as a classifier, and how AAPE is built and restored (see `aape_core`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..clip.text_features import DescriptionFeatures
from ..params import Params, Setting
from ..params.methods.aape import OTHERS_AAPE, AAPEVariant
from ..plans import plan
from ..task import Task
from .aape_core import AAPE
from .aape_retrieval import Retriever
from .losses import Batch, cross_entropy
from .reference_prompts import reference_features, references

CHUNK = 256  # images that are predicted at once


class Classifier(AAPE):
    """AAPE that classifies, by z_c = ((1 - s) f + s p) . t_c / tau (see `projections`).

    t_c, the rows of `templates` [C, d], are the normalised features of the classes' hand-crafted
    prompts; the reference prompts of a training image are those of its class. Before the first step
    p = f, so AAPE starts as zero-shot CLIP.
    """

    reads_local = False

    def __init__(self, templates: Tensor, variant: AAPEVariant, logit_scale: float,
                 seeds: Sequence[int], prompts: DescriptionFeatures | None = None) -> None:
        super().__init__(templates.shape[-1], variant, logit_scale, seeds, prompts)
        self.templates = templates.expand(len(seeds), -1, -1)
        self.to(templates.device)

    def logits(self, features: Tensor, generated: Tensor) -> Tensor:
        """Return z [R, B, C] of normalised image features and their AAPEs, [R, B, d] both."""
        return self.logit_scale * self.projection.scores(features, generated, self.templates)

    def task_loss(self, batch: Batch, generated: Tensor) -> Tensor:
        """Return the cross-entropy [R] of the classes."""
        return cross_entropy(self.logits(batch.features, generated), batch.labels)

    @torch.no_grad()
    def predict(self, features: Tensor, about: Tensor | None = None) -> Tensor:
        """Return the predicted classes [R, N] of normalised image features [N, d].

        Their AAPEs are those of the images `about` [N, d], by default of the images themselves.
        """
        about = features if about is None else about
        pairs = zip(features.split(CHUNK), about.split(CHUNK), strict=True)
        return torch.cat([self.scores(*pair).argmax(dim=-1) for pair in pairs], dim=1)

    def scores(self, features: Tensor, about: Tensor | None = None) -> Tensor:
        """Return z [R, N, C] of images (see `predict`); needs generator and projection alone."""
        runs = len(self.templates), -1, -1
        about = features if about is None else about
        return self.logits(features.expand(*runs), self.generate(about.expand(*runs)))


def texts(task: Task) -> dict[str, list[str]] | dict[str, dict[str, list[str]]]:
    """Return the reference prompts that the suite's variants learn from."""
    if task.captioned:
        return references(task, "llm")
    sources = {setting.variant.reference for setting in plan(task.params, "aape", task.name)}
    return {source: references(task, source) for source in sorted(sources)}


def build(task: Task, setting: Setting, class_names: list[str], draws: Tensor) -> AAPE:
    """Return the untrained AAPE of a setting: `Retriever` for retrieval, else `Classifier`."""
    common = setting.variant, task.logit_scale, task.params.seeds
    if setting.protocol == "retrieval":
        prompts = reference_features(task, setting.variant.reference)
        return Retriever(task.encoder.dim, *common, prompts)
    seen = len(class_names)
    prompts = reference_features(task, setting.variant.reference, seen)
    return Classifier(task.template_features[:seen], *common, prompts)


def restore(task: Task, setting: Setting, learned: dict[str, Tensor], subset: str = "all",
            onto: Task | None = None) -> AAPE:
    """Return what was learned, without aggregator and texts, for the names of a subset of `onto`.
    """
    onto = onto or task
    common = setting.variant, task.logit_scale, task.params.seeds
    if setting.protocol == "retrieval":
        return Retriever(task.encoder.dim, *common).restore(learned)
    templates = task.encoder.encode_templates(onto.names_of(subset), [onto.template])
    return Classifier(templates, *common).restore(learned)


def predictions(params: Params, setting: Setting, model: Classifier,
                inputs: list[Tensor]) -> dict[str, Tensor]:
    """Return the predictions [R, N] of the variant and a control, `{label: [R, N]}`.

    The control, of the main variant in base-to-new, gives every image the AAPE of another image.
    """
    features, = inputs
    found = {setting.variant.label: model.predict(features)}
    if (setting.protocol, setting.variant) == ("base_to_new", params.aape.base_to_new):
        found[OTHERS_AAPE] = model.predict(features, other_images(features))
    return found


def other_images(features: Tensor) -> Tensor:
    """Return the features [N, d] in another order: each image has that of one half the list away.
    """
    return features.roll(len(features) // 2, dims=0)
