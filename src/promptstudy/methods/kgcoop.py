"""KgCoOp: learned class features that stay near the hand-crafted ones (Yao et al., CVPR 2023).

Follows the paper's code; the weight w = 8 is from memory.
"""

from torch import Tensor

from .hand_crafted import HeldToHandCrafted, restore, texts  # noqa: F401 -- see `table`
from .losses import Batch, cross_entropy


class KgCoOp(HeldToHandCrafted):
    """R runs of KgCoOp that train side by side; it predicts as CoOp does.

    With s_c the class feature of the learned prompt and h_c that of the hand-crafted one, training
    minimises CE + w (1 - mean_c s_c . h_c).

    variant: `KgCoOpVariant`; `hard` [C, d] are the normalised h_c.
    """

    def loss(self, batch: Batch) -> Tensor:
        """Return CE + w (1 - mean_c s_c . h_c) [R] of each run on its batch."""
        soft = self.class_features()
        distance = 1 - (soft * self.hard).sum(dim=-1).mean(dim=-1)
        return (cross_entropy(self.logits(batch.features, soft), batch.labels)
                + self.weight * distance)


build = KgCoOp.build
