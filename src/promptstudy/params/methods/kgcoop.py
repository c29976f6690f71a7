"""The settings of KgCoOp."""

from pydantic import Field

from ..blocks import Block, Weight
from ..method import ContextParams, MethodParams


class KgCoOpVariant(Block):
    """One KgCoOp: its context, and how strongly it is kept near the hand-crafted prompt."""

    context: ContextParams = ContextParams()
    weight: Weight = Field(8.0, description="weight of the distance from the hand-crafted prompt")

    @property
    def label(self) -> str:
        """Name of the variant in the results, e.g. `w8-M4-words`."""
        return f"w{self.weight:g}-{self.context.label}"


class KgCoOpParams(MethodParams):
    """KgCoOp: its variants and their schedule."""

    title, arxiv, colour, marker = "KgCoOp", "2303.13283", "#b457bd", "v"

    few_shot: KgCoOpVariant | None = None
    base_to_new: KgCoOpVariant = KgCoOpVariant()
