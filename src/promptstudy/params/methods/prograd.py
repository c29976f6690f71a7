"""The settings of ProGrad."""

from pydantic import Field

from ..blocks import Block, Weight
from ..method import ContextParams, MethodParams


class ProGradVariant(Block):
    """One ProGrad: its context, and how much of a conflicting gradient it removes."""

    context: ContextParams = ContextParams()
    weight: Weight = Field(1.0, description="lambda; 1: all that conflicts with zero-shot CLIP")

    @property
    def label(self) -> str:
        """Name of the variant in the results, e.g. `w1-M4-words`."""
        return f"w{self.weight:g}-{self.context.label}"


class ProGradParams(MethodParams):
    """ProGrad: its variants and their schedule."""

    title, arxiv, colour, marker = "ProGrad", "2205.14865", "#3f0404", ">"

    few_shot: ProGradVariant | None = None
    base_to_new: ProGradVariant = ProGradVariant()
