"""The settings of PLOT."""

from collections.abc import Iterable

from pydantic import Field

from ..blocks import Block, Entropy, Positive
from ..method import ContextParams, NamedAblations


class PLOTVariant(Block):
    """One PLOT: how many prompts, and how they share the local features of an image."""

    name: str | None = Field(None, description="in the results; null: made from the values")
    context: ContextParams = ContextParams()
    n_prompts: Positive = Field(4, description="number of prompts N")
    sinkhorn_eps: Entropy = Field(0.1, description="entropy of the plan from local features to "
                                                   "prompts; .inf: the uniform plan")

    @property
    def label(self) -> str:
        """Name of the variant in the results, e.g. `N4-M16`."""
        return self.name or f"N{self.n_prompts}-{self.context.label}"


class PLOTParams(NamedAblations):
    """PLOT: the main variants, their schedule, and the variants of its ablations."""

    title, arxiv, colour, marker = "PLOT", "2210.01253", "#14b4af", "h"

    few_shot: PLOTVariant = PLOTVariant()
    base_to_new: PLOTVariant = PLOTVariant(context=ContextParams(n_ctx=4, init="a photo of a"))
    global_on: list[str] = Field([], description="on which datasets the score of the global "
                                                 "feature is added to that of the local ones; the "
                                                 "paper's code does so on ImageNet")
    ablations: dict[str, PLOTVariant] = {}

    @property
    def named_datasets(self) -> dict[str, Iterable[str]]:
        """See `MethodParams`."""
        return {**super().named_datasets, "global_on": self.global_on}
