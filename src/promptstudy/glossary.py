"""What the names of variants mean, and what each ablation changes, in the words of `params`."""

from .params.blocks import Block
from .results import DESCRIPTIONS_ALONE

# The parts of names that are made from a variant's values.
PARTS = {
    "M16": "16 learned context vectors per prompt",
    "N2": "2 prompts per class",
    "csc": "one context per class; without it, one for all classes",
    "front, middle": "place of the class name; without it, at the end",
    "words": "the context starts from words; without it, from random numbers",
    "w1": "the method's weight, here 1 (KgCoOp: of the distance to the hand-crafted prompt; "
          "ProGrad: of the removed part of the gradient)",
    "a=0.2": "the share of the hand-crafted prompt in the prediction",
    "attention, mean, random, mlp": "what AAPE summarises the reference prompts with",
    "val C": "the regularisation of the linear probe, chosen on validation images",
    "own template": "the dataset's hand-crafted prompt",
    "7 templates and own": "mean of the features of that many hand-crafted prompts",
    "image feature": "retrieval with CLIP's image feature, unchanged",
    DESCRIPTIONS_ALONE: "the language model's descriptions as a classifier, without training"}


def changes(variant, main):
    """Return what distinguishes a variant from the main one: texts such as `k (prompts): 2 → 4`.

    Both are blocks of `params` of the same kind; the words are those of their fields.
    """
    found = []
    for name, field in type(main).model_fields.items():
        ours, theirs = getattr(variant, name), getattr(main, name)
        if name == "name" or ours == theirs:
            continue
        if isinstance(theirs, Block) and isinstance(ours, Block):
            found += changes(ours, theirs)
        else:
            words = (field.description or name).partition(";")[0]
            found.append(f"{name} ({words}): {_word(theirs)} → {_word(ours)}")
    return found


def explained(block):
    """Return what each variant of a method's block tests, `{label: text}`, without main ones."""
    found = {}
    for protocol in ("few_shot", "base_to_new"):
        main = getattr(block, protocol, None)
        others = []
        if main is not None and hasattr(block, "ensembles"):
            others += main.ensembles(block.ensembles)
        if main is not None and block.ablation_protocol == protocol:
            others += block.ablation_variants
        found |= {other.label: "; ".join(changes(other, main)) for other in others}
    return found


def _word(value):
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
