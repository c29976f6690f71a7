"""The settings of AAPE."""

from typing import Annotated, Literal

from pydantic import Field

from ..blocks import Block, Positive, Share, Weight
from ..method import NamedAblations

# Under this name the base-to-new results hold the main variant with every image's AAPE exchanged.
OTHERS_AAPE = "another image's AAPE"


class AAPEVariant(Block):
    """One AAPE: its reference prompts, how they are summarised, what learns from the summary."""

    name: str | None = Field(None, description="in the results; null: derived from the values")
    reference: Literal["llm", "human", "template", "shuffled"] = Field(
        "llm", description="reference prompts: a language model's or the dataset's `human` ones; "
                           "controls: the hand-crafted prompt, or the sentences of another class")
    k: Positive | None = Field(None, description="reference prompts per class; null: all")
    aggregator: Literal["attention", "mean", "random", "mlp"] = Field(
        "attention", description="what summarises the reference prompts")
    agg_values: Literal["learned", "identity"] = Field(
        "learned", description="values of the attention; identity: the prompts themselves")
    heads: Positive = Field(4, description="of the attention")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="share of the attention's weights that a training step leaves out")
    mu: Weight = Field(1.0, description="weight of the reward's loss")
    projection: Literal["language", "class", "blind"] = Field(
        "language", description="what the AAPE does: it votes for classes, or a perceptron moves "
                                "the class templates by it; blind: the perceptron is not given it")
    share: Share = Field(
        0.5, description="the AAPE's share of the vote, the image has the rest (`language` alone)")
    lambda_distill: Weight = Field(
        1.0, description="weight of the distance from AAPE to the summary; 0: no distillation")

    @property
    def label(self) -> str:
        """Name of the variant in the results, e.g. `attention`, `attention-k2`."""
        return self.name or self.aggregator + (f"-k{self.k}" if self.k else "")


class AAPEParams(NamedAblations):
    """AAPE: the main variants, their schedule, and the variants of its ablations."""

    title, arxiv, colour, marker = "AAPE", "2410.23698", "#66008b", "P"
    inferred = True

    few_shot: AAPEVariant = AAPEVariant()
    base_to_new: AAPEVariant = AAPEVariant()
    retrieval: AAPEVariant = AAPEVariant()
    ablations: dict[str, AAPEVariant] = {}

    @property
    def base_to_new_labels(self) -> list[str]:
        """Names of all variants with base-to-new results, the exchanged AAPEs coming last."""
        return [*super().base_to_new_labels, OTHERS_AAPE]
