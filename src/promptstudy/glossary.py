"""What the names of variants mean, and what each ablation changes, in the words of `params`."""

from .params.blocks import Block
from .params.method import MethodParams
from .params.methods.aape import OTHERS_AAPE
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
    "val alpha, beta": "Tip-Adapter's two constants, chosen on validation images",
    "own template": "the dataset's hand-crafted prompt",
    "7 templates and own": "mean of the features of that many hand-crafted prompts",
    "image feature": "retrieval with CLIP's image feature, unchanged",
    DESCRIPTIONS_ALONE: "the language model's descriptions as a classifier, without training",
    OTHERS_AAPE: "the main variant, predicting with the AAPE of another image"}


def changes(variant: Block, main: Block) -> list[str]:
    """Return what distinguishes a variant from the main one: texts such as `k (prompts): 2 → 4`.

    Both are blocks of `params` of the same kind; the words are those of their fields.
    """
    found: list[str] = []
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


def explained(block: MethodParams) -> dict[str, str]:
    """Return what each variant of a method's block tests, `{label: text}`, without main ones."""
    found: dict[str, str] = {}
    for protocol in ("few_shot", "base_to_new"):
        main = getattr(block, protocol, None)
        if main is None:
            continue
        others = list(main.ensembles(block.ensembles)) if hasattr(block, "ensembles") else []
        if block.ablation_protocol == protocol:
            others += block.ablation_variants
        found |= {other.label: "; ".join(changes(other, main)) for other in others}
    return found | {label: PARTS[label] for label in getattr(block, "base_to_new_labels", [])
                    if label in PARTS and label not in found and label != block.base_to_new.label}


def _word(value):
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
