"""AAPE's projections: how an image's AAPE p and its feature f become scores of the classes.

Each is called with AAPEs and features [R, N, d] and returns the adapted image features [R, N, d],
not yet normalised, by which retrieval ranks captions; `scores` compares images with classes. Before
the first step, when p = f or the last layer is 0, all scores are zero-shot CLIP's. Inferred from
the abstract.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .stacked import MLP

PIECE = 2**20  # numbers [R, b, C, d] that are computed at once: few enough for the cache
# numbers of a batch that are kept for the gradient, and, of a larger batch, that are made at once:
# many, since small blocks of memory that come and go by the hundred leave gaps behind
KEPT = 2**24


class Language(nn.Module):
    """z_c = ((1 - s) f + s p) . t_c: the AAPE votes for the classes that it speaks about.

    It has the share s of the vote and learns nothing itself. What the generator has learned
    reaches a class only through p . t_c, the cosine of two texts; with s = 0 this is zero-shot
    CLIP.
    """

    def __init__(self, generators: list[torch.Generator], dim: int, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, prompts: Tensor, images: Tensor) -> Tensor:
        return torch.lerp(images, prompts, self.share)

    def scores(self, images: Tensor, prompts: Tensor, classes: Tensor) -> Tensor:
        """Return z [R, B, C] of images and their AAPEs [R, B, d] and class templates [R, C, d]."""
        return self(prompts, images) @ classes.mT


class ClassMLP(nn.Module):
    """z_c = f . norm(t_c + MLP([p; t_c])): the AAPE moves the class templates.

    The MLP can also move them without it, and does: see `BlindMLP`.
    """

    def __init__(self, generators: list[torch.Generator], dim: int, share: float) -> None:
        super().__init__()
        self.mlp = MLP(generators, dim, hidden=dim, inputs=2, zero=True)

    def forward(self, prompts: Tensor, images: Tensor) -> Tensor:
        return images + self.mlp(torch.cat([prompts, images], dim=-1))

    def scores(self, images: Tensor, prompts: Tensor, classes: Tensor) -> Tensor:
        """Return z [R, B, C] (see `Language.scores`).

        The first layer is a sum of one term per image and one per class, so [p; t_c] is never
        formed. What is behind it needs every pair: images are taken in pieces, and a large batch's
        pairs are computed again for the gradient rather than kept.
        """
        of_prompt, of_class = (self.mlp.scale * self.mlp.first.weight).chunk(2, dim=1)
        first = prompts @ of_prompt
        assert self.mlp.first.bias is not None
        second = torch.baddbmm(self.mlp.first.bias[:, None], classes, of_class)

        def piece(images, first):
            weights = classes[:, None] + self.mlp.output(first[:, :, None] + second[:, None])
            return torch.einsum("rbd,rbcd->rbc", images, weights) / weights.norm(dim=-1)

        per_image = classes.numel()
        again = torch.is_grad_enabled() and per_image * images.shape[1] > KEPT
        size = max(1, (KEPT if again else PIECE) // per_image)
        pieces = zip(images.split(size, dim=1), first.split(size, dim=1), strict=True)
        return torch.cat([checkpoint(piece, *part, use_reentrant=False) if again else piece(*part)
                          for part in pieces], dim=1)


class BlindMLP(nn.Module):
    """z_c = f . norm(t_c + MLP(t_c)): `ClassMLP` that is not given the AAPE, a control."""

    def __init__(self, generators: list[torch.Generator], dim: int, share: float) -> None:
        super().__init__()
        self.mlp = MLP(generators, dim, hidden=dim, zero=True)

    def forward(self, prompts: Tensor, images: Tensor) -> Tensor:
        return images + self.mlp(images)

    def scores(self, images: Tensor, prompts: Tensor, classes: Tensor) -> Tensor:
        """Return z [R, B, C] (see `Language.scores`)."""
        return images @ F.normalize(classes + self.mlp(classes), dim=-1).mT


PROJECTIONS: dict[str, type[Language | ClassMLP | BlindMLP]] = {
    "language": Language, "class": ClassMLP, "blind": BlindMLP}
