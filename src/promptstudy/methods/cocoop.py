"""CoCoOp: a context that every image shifts (Zhou et al., CVPR 2022).

Follows the paper's code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..clip.text import TextEncoder
from ..params import ContextParams, Setting
from ..task import Task
from .coop import CoOp
from .losses import Batch, cross_entropy
from .stacked import ContextNetwork, generators_of

# Prompts that are encoded at once: one image's for ImageNet's 1,000 classes and three seeds fit in.
PROMPTS = 2**12


class CoCoOp(CoOp):
    """R runs of CoCoOp that train side by side; contexts and meta-networks learn (section 3.2).

    With f the normalised feature of an image x, h the meta-network, v_m the context vectors and c_i
    the name of class i, the prompt of a class depends on the image:
        pi = h(f),  v_m(x) = v_m + pi,  t_i(x) = [v_1(x), ..., v_M(x), c_i],
    and, with g the text encoder, which runs once for every pair of image and class,
        p(y = i | x) = exp(cos(f, g(t_i(x))) / tau) / sum_j exp(cos(f, g(t_j(x))) / tau).

    variant: `ContextParams`. `contexts` are the starting point, as CoOp's; the meta-networks
    (`ContextNetwork`) are drawn from `seeds`, one per run, as in the paper's code.
    """

    def __init__(self, encoder: TextEncoder, class_names: list[str], variant: ContextParams,
                 logit_scale: float, *, contexts: Tensor | None = None,
                 seeds: Sequence[int] = ()) -> None:
        super().__init__(encoder, class_names, variant, logit_scale, contexts=contexts, seeds=seeds)
        self.network = ContextNetwork(generators_of(seeds), encoder.dim, encoder.width).to(
            encoder.device)

    def class_features(self, features: Tensor) -> Tensor:  # type: ignore[override]
        """Return normalised text features [R, B, C, d] for normalised image features [R, B, d].

        The text encoder treats every image as a run of its own.
        """
        shift = self.network(features)  # pi [R, B, D]
        shape = (*shift.shape[:2], *[1] * (self.contexts.ndim - 2), shift.shape[-1])
        contexts = self.contexts.unsqueeze(1) + shift.view(shape)
        classes = self.encoder(*self.layout(contexts.flatten(0, 1)))
        return F.normalize(classes.unflatten(0, shift.shape[:2]), dim=-1)

    def scores(self, features: Tensor) -> Tensor:
        """Return class scores [R, B, C] of normalised image features [R, B, d].

        Images are processed in pieces of about `PROMPTS` prompts. If there are several pieces,
        their activations are recomputed in the backward pass instead of being stored.
        """
        def piece(features):
            return self.logit_scale * torch.einsum("rbd,rbcd->rbc", features,
                                                   self.class_features(features))

        runs, count = features.shape[:2]
        size = max(1, PROMPTS // (runs * len(self.layout.class_names)))
        again = torch.is_grad_enabled() and count > size
        return torch.cat([checkpoint(piece, part, use_reentrant=False) if again else piece(part)
                          for part in features.split(size, dim=1)], dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy [R] of each run on its batch."""
        return cross_entropy(self.scores(batch.features), batch.labels)

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Return the predicted classes [R, N] of normalised image features [N, d]."""
        return self.scores(features.expand(len(self.contexts), -1, -1)).argmax(dim=-1)


def texts(task: Task) -> None:
    """Return None: CoCoOp reads nothing but the class names."""


def build(task: Task, setting: Setting, class_names: list[str], draws: Tensor) -> CoCoOp:
    """Return the untrained CoCoOp of a setting, one run per seed."""
    return CoCoOp(task.encoder, class_names, setting.variant, task.logit_scale,
                  seeds=task.params.seeds)


def restore(task: Task, setting: Setting, learned: dict[str, Tensor], subset: str = "all",
            onto: Task | None = None) -> CoCoOp:
    """Return what was learned around the class names of a subset of `onto`, or of the task."""
    model = CoCoOp(task.encoder, (onto or task).names_of(subset), setting.variant,
                   task.logit_scale, contexts=learned["contexts"], seeds=task.params.seeds)
    model.network.load_state_dict({name.removeprefix("network."): tensor
                                   for name, tensor in learned.items()
                                   if name.startswith("network.")})
    return model
