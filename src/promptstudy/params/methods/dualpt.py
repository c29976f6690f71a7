"""What can be set about DuAl-PT."""

from typing import Literal

from pydantic import Field

from ..blocks import Block, Entropy, Positive, Weight
from ..method import ContextParams, NamedStudies


class DuAlPTVariant(Block):
    """One DuAl-PT: how many prompts, what they are aligned with and how strongly."""

    name: str | None = Field(None, description="in the results; null: made from the values")
    context: ContextParams = ContextParams()
    n_prompts: Positive = Field(4, description="number of prompts N")
    text_align: Literal["ot", "mean", "infonce", "kl"] = Field(
        "ot", description="how prompts are aligned with class descriptions")
    lambda_text: Weight = Field(1.0, description="weight of that loss; 0: no text alignment")
    eps_text: Entropy = Field(0.02, description="entropy of its plan; .inf: the uniform plan")
    local_align: Literal["ot", "topk", "attn"] = Field(
        "ot", description="how prompts are aligned with local image features")
    alpha: Weight = Field(1.0, description="weight of the local scores' loss")
    beta_infer: Weight = Field(1.0, description="weight of local scores in the prediction")
    sinkhorn_eps: Entropy = Field(0.1, description="entropy of their plan; .inf: uniform")
    llm_ensemble: Weight = Field(0.0, description="weight of the mean description's scores in the "
                                                  "prediction, which then needs descriptions")
    descriptions: Literal["llm", "template", "shuffled"] = Field(
        "llm", description="a language model's, the template as the only one, or the model's but "
                           "of another class")

    @property
    def label(self):
        """Name of the variant in the results, e.g. `N4-M16`."""
        return self.name or f"N{self.n_prompts}-{self.context.label}"


class DuAlPTParams(NamedStudies):
    """DuAl-PT: the main variants, their schedule, and the variants of its studies."""

    title, arxiv, colour = "DuAl-PT", "2309.04158", "#0b5fa5"

    few_shot: DuAlPTVariant = DuAlPTVariant()
    base_to_new: DuAlPTVariant = DuAlPTVariant()
    studies: dict[str, DuAlPTVariant] = {}
