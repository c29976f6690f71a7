"""Texts about the classes of a Task, as text and as features of the text tower."""

from .clip.text_features import (
    DescriptionFeatures,
    encode_descriptions,
    hand_crafted_texts,
    shuffled,
)
from .llm.descriptions import load_descriptions
from .task import Task, per_task


@per_task
def sentences(task: Task) -> dict[str, list[str]]:
    """Return a language model's descriptions of all classes, `{class name: [sentence, ...]}`."""
    return load_descriptions(task.params, task.name, task.class_names).texts


@per_task
def descriptions(task: Task, kind: str = "llm") -> DescriptionFeatures:
    """Return the `DescriptionFeatures` of all classes.

    kind: `llm`, the language model's; `template`, only the hand-crafted prompt; `shuffled`, the
    language model's for another class. A shifted version uses its source's.
    """
    if task.source:
        return descriptions(task.source, kind).of(task.source_labels)
    if kind == "shuffled":
        return descriptions(task).of(shuffled(len(task.class_names)))
    texts = sentences(task) if kind == "llm" else task.template_texts
    return encode_descriptions(task.encoder, texts, task.class_names,
                               f"descriptions of {task.name}" if kind == "llm" else None)


@per_task
def view_texts(task: Task) -> dict[str, dict[str, list[str]]]:
    """Return the texts of every hand-crafted view, `{view: {class name: [text, ...]}}`."""
    return hand_crafted_texts(task.class_names, task.template, sentences(task))


@per_task
def view_features(task: Task, view: str) -> DescriptionFeatures:
    """Return the `DescriptionFeatures` of all classes in a hand-crafted view.

    view: `template`, `ensemble` or `descriptions`. A shifted version uses its source's.
    """
    if task.source:
        return view_features(task.source, view).of(task.source_labels)
    return encode_descriptions(task.encoder, view_texts(task)[view], task.class_names)
