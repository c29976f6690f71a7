"""The reference prompts that AAPE learns from: sentences about a class, or an image's captions."""

import torch
from torch.nn import functional as F

from ..clip.text_features import DescriptionFeatures, encode_descriptions, shuffled
from ..datasets.captions import load_captions
from ..llm.descriptions import load_references
from ..task import Task, per_task


@per_task
def references(task: Task, source: str) -> dict[str, list[str]]:
    """Return AAPE's reference prompts, `{class name, or image path: [sentence, ...]}`.

    source: `llm`, `human`, `template`, the hand-crafted prompt, or `shuffled`, for which see
    `reference_features`. Those of a captioned dataset are its captions, whatever the source.
    """
    if task.captioned:
        return load_captions(task.params, task.name)
    if source == "template":
        return task.template_texts
    kind = "llm" if source == "shuffled" else source
    return load_references(task.params, task.name, task.class_names, [kind])[kind]


@per_task
def reference_features(task: Task, source: str, count: int | None = None) -> DescriptionFeatures:
    """Return the `DescriptionFeatures` of the first `count` training labels, or of all.

    `shuffled` gives each of these labels the language model's sentences about another one of them.
    """
    labels = task.pack.train.paths if task.captioned else task.class_names
    count = count or len(labels)
    if source == "shuffled":
        return reference_features(task, "llm").of(shuffled(count))
    if count < len(labels):
        return reference_features(task, source).of(slice(count))
    return encode_descriptions(task.encoder, references(task, source), labels,
                               f"{source} prompts of {task.name}")


def centred(prompts: DescriptionFeatures) -> DescriptionFeatures:
    """Return reference prompts without what they have in common, `DescriptionFeatures`.

    E_k becomes norm(E_k - m), m being the mean over labels of a label's mean prompt. Sentences
    resemble each other far more than they resemble any image, and what they share says nothing
    about a class. Fillers stay 0.
    """
    features, weights = prompts
    mean = torch.einsum("ck,ckd->cd", weights, features).mean(dim=0)
    return DescriptionFeatures(F.normalize(features - mean, dim=-1) * (weights > 0)[..., None],
                               weights)
