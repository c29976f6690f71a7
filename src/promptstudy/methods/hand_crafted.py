"""What KgCoOp and ProGrad share: a learned prompt that is kept near the hand-crafted one."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor

from ..clip.text import TextEncoder
from ..params import Setting
from ..params.methods.kgcoop import KgCoOpVariant
from ..params.methods.prograd import ProGradVariant
from ..task import Task
from .coop import CoOp


class HeldToHandCrafted(CoOp):
    """R runs of CoOp whose training also uses the hand-crafted prompts; they predict as CoOp.

    variant: has a `context` and a `weight`; `hard` [C, d] are the normalised features of the
    hand-crafted prompts.
    """

    def __init__(self, encoder: TextEncoder, class_names: list[str],
                 variant: KgCoOpVariant | ProGradVariant, logit_scale: float, *,
                 seeds: Sequence[int], hard: Tensor) -> None:
        super().__init__(encoder, class_names, variant.context, logit_scale, seeds=seeds)
        self.weight, self.hard = variant.weight, hard

    @classmethod
    def build(cls, task: Task, setting: Setting, class_names: list[str], draws: Tensor) -> Self:
        """Return the untrained method of a setting, one run per seed."""
        return cls(task.encoder, class_names, setting.variant, task.logit_scale,
                   seeds=task.params.seeds, hard=task.template_features[:len(class_names)])


def texts(task: Task) -> dict[str, list[str]]:
    """Return the hand-crafted prompts that the class features are kept near."""
    return task.template_texts


def restore(task: Task, setting: Setting, learned: dict[str, Tensor], subset: str = "all",
            onto: Task | None = None) -> CoOp:
    """Return CoOp with the learned contexts, around the names of a subset of `onto` or the task."""
    return CoOp(task.encoder, (onto or task).names_of(subset), setting.variant.context,
                task.logit_scale, contexts=learned["contexts"])
