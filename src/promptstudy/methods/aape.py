"""AAPE as a classifier, and how AAPE is built and restored (see `aape_core`)."""

import torch

from ..methods.reference_prompts import reference_features, references
from ..plans import plan
from .aape_core import AAPE
from .aape_retrieval import Retriever
from .losses import cross_entropy

CHUNK = 256  # images that are predicted at once


class Classifier(AAPE):
    """AAPE that classifies: w_c(x) = norm(t_c + MLP([p; t_c])), z_c = f . w_c(x) / tau.

    t_c, the rows of `templates` [C, d], are the normalised features of the classes' hand-crafted
    prompts; the reference prompts of a training image are those of its class. The projection
    starts so that w_c = t_c: before the first step this is zero-shot CLIP.
    """

    reads_local = False

    def __init__(self, templates, variant, logit_scale, seeds, prompts=None):
        super().__init__(templates.shape[-1], variant, logit_scale, seeds, prompts)
        self.templates = templates.expand(len(seeds), -1, -1)
        self.to(templates.device)

    def logits(self, features, generated):
        """Return z [R, B, C] of normalised image features and their AAPEs, [R, B, d] both."""
        return self.logit_scale * self.projection.cosines(features, generated, self.templates)

    def task_loss(self, batch, generated):
        """Return the cross-entropy [R] of the classes."""
        return cross_entropy(self.logits(batch.features, generated), batch.labels)

    @torch.no_grad()
    def predict(self, features):
        """Return the predicted classes [R, N] of normalised image features [N, d]."""
        return torch.cat([self.scores(part).argmax(dim=-1) for part in features.split(CHUNK)],
                         dim=1)

    def scores(self, features):
        """Return z [R, N, C] of normalised image features [N, d]; generator and projection only."""
        features = features.expand(len(self.templates), *features.shape)
        return self.logits(features, self.generate(features))


def texts(task):
    """Return the reference prompts that the suite's variants learn from."""
    if task.captioned:
        return references(task, "llm")
    sources = {setting.variant.reference for setting in plan(task.params, "aape", task.name)}
    return {source: references(task, source) for source in sorted(sources)}


def build(task, setting, class_names, draws):
    """Return the untrained AAPE of a setting: `Retriever` for retrieval, else `Classifier`."""
    common = setting.variant, task.logit_scale, task.params.seeds
    prompts = reference_features(task, setting.variant.reference)
    if setting.protocol == "retrieval":
        return Retriever(task.encoder.dim, *common, prompts)
    base = slice(len(class_names))
    return Classifier(task.template_features[base], *common, prompts.of(base))


def restore(task, setting, learned, subset="all", onto=None):
    """Return what was learned, without aggregator and texts, for the names of a subset of `onto`.
    """
    onto = onto or task
    common = setting.variant, task.logit_scale, task.params.seeds
    if setting.protocol == "retrieval":
        return Retriever(task.encoder.dim, *common).restore(learned)
    templates = task.encoder.encode_templates(onto.names_of(subset), [onto.template])
    return Classifier(templates, *common).restore(learned)
