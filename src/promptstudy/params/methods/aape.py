"""The settings of AAPE."""

from typing import Literal

from pydantic import Field

from ..blocks import Block, Positive, Weight
from ..method import NamedAblations


class AAPEVariant(Block):
    """One AAPE: its reference prompts, how they are summarised, what learns from the summary."""

    name: str | None = Field(None, description="in the results; null: derived from the values")
    reference: Literal["llm", "human"] = Field(
        "llm", description="reference prompts: a language model's, or the dataset's `human` ones")
    k: Positive | None = Field(None, description="reference prompts per class; null: all")
    aggregator: Literal["attention", "mean", "random", "mlp"] = Field(
        "attention", description="what summarises the reference prompts")
    agg_values: Literal["learned", "identity"] = Field(
        "learned", description="values of the attention; identity: the prompts themselves")
    heads: Positive = Field(8, description="of the attention")
    reward: Literal["cos", "nce"] = Field(
        "cos", description="what the aggregator learns from")
    mu: Weight = Field(1.0, description="weight of the reward's loss")
    gen_hidden: Positive | None = Field(
        None, description="hidden width of the generator; null: that of the features")
    gen_residual: bool = Field(False, description="does the generator start from the image?")
    proj: Literal["mlp_residual", "linear"] = Field(
        "mlp_residual", description="how AAPE and class template become the class weight")
    lambda_distill: Weight = Field(
        1.0, description="weight of the distance from AAPE to the summary; 0: no distillation")

    @property
    def label(self):
        """Name of the variant in the results, e.g. `attention`, `attention-k2`."""
        return self.name or self.aggregator + (f"-k{self.k}" if self.k else "")


class AAPEParams(NamedAblations):
    """AAPE: the main variants, their schedule, and the variants of its ablations."""

    title, arxiv, colour, marker = "AAPE", "2410.23698", "#66008b", "P"

    few_shot: AAPEVariant = AAPEVariant()
    base_to_new: AAPEVariant = AAPEVariant()
    retrieval: AAPEVariant = AAPEVariant()
    ablations: dict[str, AAPEVariant] = {}
