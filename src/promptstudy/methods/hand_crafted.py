"""What KgCoOp and ProGrad share: a learned prompt that is held to the hand-crafted one."""

from .coop import CoOp


class HeldToHandCrafted(CoOp):
    """R runs of CoOp whose training looks at the hand-crafted prompts too; it predicts as CoOp.

    variant: has a `context` and a `weight`; `hard` [C, d] are the normalised features of the
    hand-crafted prompts.
    """

    def __init__(self, encoder, class_names, variant, logit_scale, *, seeds, hard):
        super().__init__(encoder, class_names, variant.context, logit_scale, seeds=seeds)
        self.weight, self.hard = variant.weight, hard

    @classmethod
    def build(cls, task, setting, class_names, draws):
        """Return the untrained method of a setting, one run a seed."""
        return cls(task.encoder, class_names, setting.variant, task.logit_scale,
                   seeds=task.params.seeds, hard=task.template_features[:len(class_names)])


def texts(task):
    """Return the hand-crafted prompts that the class features are held to."""
    return task.template_texts


def restore(task, setting, learned, subset="all", onto=None):
    """Return CoOp with the learned contexts, around the names of a subset of `onto` or the task."""
    return CoOp(task.encoder, (onto or task).names_of(subset), setting.variant.context,
                task.logit_scale, contexts=learned["contexts"])
