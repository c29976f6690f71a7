"""The settings of CoOp."""

from ..method import ContextParams, MethodParams


class CoOpParams(MethodParams):
    """CoOp: its contexts, their schedule, and the contexts of its ablations."""

    title, arxiv, colour, marker = "CoOp", "2109.01134", "#941b0c", "o"
    required = True  # the others are compared with it
    naming = "they must differ in n_ctx, class_specific, position or in having initial words"

    few_shot: ContextParams = ContextParams()
    base_to_new: ContextParams = ContextParams(n_ctx=4, init="a photo of a")
    ablations: list[ContextParams] = []
