"""The settings of CoCoOp."""

from ..method import ContextParams, MethodParams


class CoCoOpParams(MethodParams):
    """CoCoOp: its contexts and their schedule."""

    title, arxiv, colour, marker = "CoCoOp", "2203.05557", "#7db046", "<"

    few_shot: ContextParams | None = None
    base_to_new: ContextParams = ContextParams(n_ctx=4, init="a photo of a")
