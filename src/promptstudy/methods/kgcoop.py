"""KgCoOp: class features that learn, but stay near the hand-crafted ones (Yao et al., CVPR 2023).

After the paper's code; its weight w = 8 is from memory.
"""

from .coop import CoOp
from .losses import cross_entropy


class KgCoOp(CoOp):
    """R runs of KgCoOp that train side by side; it predicts as CoOp does.

    With s_c the class feature of the learned prompt and h_c that of the hand-crafted one, training
    minimises CE + w (1 - mean_c s_c . h_c).

    variant: `KgCoOpVariant`; `hard` [C, d] are the normalised h_c.
    """

    def __init__(self, encoder, class_names, variant, logit_scale, *, seeds, hard):
        super().__init__(encoder, class_names, variant.context, logit_scale, seeds=seeds)
        self.weight, self.hard = variant.weight, hard

    def loss(self, batch):
        """Return CE + w (1 - mean_c s_c . h_c) [R] of each run on its batch."""
        soft = self.class_features()
        distance = 1 - (soft * self.hard).sum(dim=-1).mean(dim=-1)
        return (cross_entropy(self.logits(batch.features, soft), batch.labels)
                + self.weight * distance)


def texts(task):
    """Return the hand-crafted prompts that the class features are held to."""
    return task.template_texts


def build(task, setting, class_names, draws):
    """Return the untrained KgCoOp of a setting, one run a seed."""
    return KgCoOp(task.encoder, class_names, setting.variant, task.logit_scale,
                  seeds=task.params.seeds, hard=task.template_features[:len(class_names)])


def restore(task, setting, learned, subset="all", onto=None):
    """Return CoOp with the learned contexts, around the names of a subset of `onto` or the task."""
    return CoOp(task.encoder, (onto or task).names_of(subset), setting.variant.context,
                task.logit_scale, contexts=learned["contexts"])
