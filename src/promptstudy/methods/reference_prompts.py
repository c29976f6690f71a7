"""The reference prompts that AAPE learns from: sentences about a class, or an image's captions."""

from ..clip.text_features import encode_descriptions
from ..datasets.captions import load_captions
from ..llm.descriptions import load_references
from ..task import per_task


@per_task
def references(task, source):
    """Return AAPE's reference prompts, `{class name, or image path: [sentence, ...]}`.

    source: `llm` or `human`. Those of a captioned dataset are its captions, whatever the source.
    """
    if task.captioned:
        return load_captions(task.params, task.name)
    return load_references(task.params, task.name, task.class_names, [source])[source]


@per_task
def reference_features(task, source):
    """Return the `DescriptionFeatures` of the reference prompts of all training labels."""
    labels = task.pack.train.paths if task.captioned else task.class_names
    return encode_descriptions(task.encoder, references(task, source), labels,
                               f"{source} prompts of {task.name}")
