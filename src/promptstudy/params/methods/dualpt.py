"""The settings of DuAl-PT."""

from typing import Literal

from pydantic import Field

from ..blocks import Entropy, Weight
from ..method import NamedAblations
from .plot import PLOTVariant


class DuAlPTVariant(PLOTVariant):
    """One DuAl-PT: PLOT's prompts, what they are aligned with and how strongly."""

    text_align: Literal["ot", "mean", "infonce", "kl"] = Field(
        "ot", description="how prompts are aligned with class descriptions")
    lambda_text: Weight = Field(1.0, description="weight of that loss; 0: no text alignment")
    eps_text: Entropy = Field(0.02, description="entropy of its plan; .inf: the uniform plan")
    local_align: Literal["ot", "topk"] = Field(
        "ot", description="how prompts are aligned with local image features")
    alpha: Weight = Field(1.0, description="weight of the local scores' loss")
    beta_infer: Weight = Field(1.0, description="weight of local scores in the prediction")
    descriptions: Literal["llm", "template", "shuffled"] = Field(
        "llm", description="a language model's, the template as the only one, or the model's but "
                           "of another class")


class DuAlPTParams(NamedAblations):
    """DuAl-PT: the main variants, their schedule, and the variants of its ablations."""

    title, arxiv, colour, marker = "DuAl-PT", "2309.04158", "#4771f8", "s"
    inferred = True

    few_shot: DuAlPTVariant = DuAlPTVariant()
    base_to_new: DuAlPTVariant = DuAlPTVariant()
    ablations: dict[str, DuAlPTVariant] = {}
