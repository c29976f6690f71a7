"""DuAl-PT: several prompts aligned with descriptions and with local image features.

Hu, Lin, Wang, Sun and Xu, *Context-Aware Prompt Tuning for Vision-Language Model with
Dual-Alignment*, 2023. Re-implemented from the abstract, which names the two alignments and nothing
else. The equations of the local side follow PLOT (Chen et al., ICLR 2023); those of the text side
follow KgCoOp (`mean`), ProGrad (`kl`) or the transport of the local side (`ot`).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..class_texts import descriptions, sentences
from ..clip.text import TextEncoder
from ..clip.text_features import DescriptionFeatures
from ..params import Setting
from ..params.methods.dualpt import DuAlPTVariant
from ..task import Task
from .losses import Batch, cross_entropy
from .plot import PLOT
from .transport import sinkhorn

ITERATIONS = 100  # enough to fit plans to within 1e-4 of a weight at entropy 0.02
NEAREST = 0.2  # `topk` averages this share of the local features (PLOT's 10 of 49)
TAU_TEXT = 0.1  # temperature of `infonce`


class DuAlPT(PLOT):
    """R runs of DuAl-PT that train side by side; the N contexts of each run are all it learns.

    With E_ck the K descriptions of class c, and PLOT's scores z^g by an image's global and z^l by
    its local features, training minimises CE(z^g) + alpha CE(z^l) + lambda L_text (see
    `text_loss`). The prediction is the largest z^g + beta z^l, which needs no descriptions, even
    of new classes.

    variant: `DuAlPTVariant`; the other arguments are PLOT's, and `descriptions` are those of the
    classes. These and `train_local` are needed only if their parts of the loss have a weight.
    """

    variant: DuAlPTVariant

    def __init__(self, encoder: TextEncoder, class_names: list[str], variant: DuAlPTVariant,
                 logit_scale: float, *, descriptions: DescriptionFeatures | None = None,
                 **given: Any) -> None:
        super().__init__(encoder, class_names, variant, logit_scale, **given)
        self.descriptions: Any = descriptions

    def local_plan(self, similarity: Tensor) -> Tensor:
        """Return the weight of each pair of local feature and prompt: similarities are [..., L, N].

        `ot`: PLOT's transport plan; `topk`: for each prompt the most similar local features.
        Weights add up to 1.
        """
        n_local, n_prompts = similarity.shape[-2:]
        match self.variant.local_align:
            case "ot":
                return super().local_plan(similarity)
            case _:  # topk
                count = max(1, round(NEAREST * n_local))
                chosen = similarity.topk(count, dim=-2).indices
                ones = torch.zeros_like(similarity).scatter(-2, chosen, 1.0)
                return ones / (count * n_prompts)

    def text_cost(self, prompts: Tensor) -> Tensor:
        """Return 1 - T_cn . E_ck [R, C, N, K] of the prompts [R, C, N, d]."""
        return 1 - torch.einsum("rcnd,ckd->rcnk", prompts, self.descriptions.features)

    def text_plan(self, cost: Tensor) -> Tensor:
        """Return the transport plan [R, C, N, K] of prompts to the descriptions of their class."""
        return sinkhorn(cost, self.variant.eps_text, ITERATIONS,
                        column_weights=self.descriptions.weights)

    def text_loss(self, features: Tensor, classes: Tensor, prompts: Tensor,
                  logits: Tensor) -> Tensor:
        """Return L_text [R], the distance of the prompts to the descriptions E_ck of their class.

        `ot`: mean_c sum_nk P_nk (1 - T_cn . E_ck); `mean`: mean_c (1 - T_c . E_c), E_c the
        normalised mean description; `infonce`: the cross-entropy of class c among all classes
        under T_c . E_c' / tau_t; `kl`: KL(softmax(f . E / tau) || softmax(z^g)), the mean
        descriptions being the teacher's class features.
        """
        mean = self.descriptions.mean
        match self.variant.text_align:
            case "ot":
                cost = self.text_cost(prompts)
                return (self.text_plan(cost) * cost).sum(dim=(-2, -1)).mean(dim=-1)
            case "mean":
                return 1 - (classes * mean).sum(dim=-1).mean(dim=-1)
            case "infonce":
                own = torch.arange(len(mean), device=mean.device).expand(len(classes), -1)
                return cross_entropy(classes @ mean.T / TAU_TEXT, own)
            case _:  # kl
                teacher = self.global_logits(features, mean).log_softmax(dim=-1)
                divergence = F.kl_div(logits.log_softmax(dim=-1), teacher, reduction="none",
                                      log_target=True)
                return divergence.sum(dim=-1).mean(dim=-1)

    def loss(self, batch: Batch) -> Tensor:
        """Return CE(z^g) + alpha CE(z^l) + lambda L_text [R] of each run on its batch."""
        classes, prompts = self.class_features()
        logits = self.global_logits(batch.features, classes)
        loss = cross_entropy(logits, batch.labels)
        if self.variant.alpha:
            local = self.train_local[batch.index]
            loss = loss + self.variant.alpha * cross_entropy(self.local_logits(local, prompts),
                                                             batch.labels)
        if self.variant.lambda_text:
            loss = loss + self.variant.lambda_text * self.text_loss(batch.features, classes,
                                                                    prompts, logits)
        return loss

    def scores(self, features: Tensor, local: Tensor, classes: Tensor, prompts: Tensor) -> Tensor:
        """Return the class scores [R, B, C] that predict, z^g + beta z^l (see `PLOT.scores`)."""
        scores = self.global_logits(features, classes)
        if self.variant.beta_infer:
            scores = scores + self.variant.beta_infer * self.local_logits(local, prompts)
        return scores


def texts(task: Task) -> dict[str, list[str]]:
    """Return the descriptions that the prompts are aligned with."""
    return sentences(task)


def build(task: Task, setting: Setting, class_names: list[str], draws: Tensor) -> DuAlPT:
    """Return the untrained DuAl-PT of a setting, one run per seed."""
    of_classes = descriptions(task, setting.variant.descriptions).of(slice(len(class_names)))
    return DuAlPT(task.encoder, class_names, setting.variant, task.logit_scale,
                  seeds=task.params.seeds, train_local=task.pack.train.local,
                  descriptions=of_classes)


restore = DuAlPT.restore
