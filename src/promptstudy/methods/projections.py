"""AAPE's projections: from an image's AAPE p and a vector x to the vector w that replaces x.

x is a class's template feature, then w is the class's weight, or (in retrieval) the image feature.
Every projection starts as w = x, so that AAPE starts as zero-shot CLIP.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .stacked import MLP

PIECE = 2**20  # numbers [R, b, C, d] that are computed at once: few enough for the cache
# numbers of a batch that are kept for the gradient, and, of a larger batch, that are made at once:
# many, since small blocks of memory that come and go by the hundred leave gaps behind
KEPT = 2**24


class ResidualMLP(nn.Module):
    """w = x + MLP([p; x]), whose last layer starts from 0."""

    def __init__(self, generators, dim):
        super().__init__()
        self.mlp = MLP(generators, dim, hidden=dim, inputs=2, zero=True)

    def forward(self, prompts, vectors):
        """Return w [R, B, d] of pairs of AAPE and vector, [R, B, d] both."""
        return vectors + self.mlp(torch.cat([prompts, vectors], dim=-1))

    def cosines(self, images, prompts, classes):
        """Return cos(f, w_c) [R, B, C] of images and their AAPEs [R, B, d] and classes [R, C, d].

        The first layer is a sum of one term an image and one a class, so [p; x] is never formed.
        What is behind it needs every pair: images are taken in pieces, and a large batch's pairs
        are computed again for the gradient rather than kept.
        """
        of_prompt, of_class = (self.mlp.scale * self.mlp.first.weight).chunk(2, dim=1)
        first = prompts @ of_prompt
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


class LinearProjection(nn.Module):
    """w = W_1 p + W_2 x with W_1 = 0 and W_2 = 1 at first.

    f . w_c = f . W_1 p + f . W_2 t_c, whose first term is the same for every class: with this
    projection an image's AAPE changes the order of the classes through the norm of w_c alone.
    """

    def __init__(self, generators, dim):
        super().__init__()
        start = torch.cat([torch.zeros(dim, dim), torch.eye(dim)])
        self.weight = nn.Parameter(start.repeat(len(generators), 1, 1))

    def forward(self, prompts, vectors):
        """Return w [R, B, d] of pairs of AAPE and vector, [R, B, d] both."""
        return torch.cat([prompts, vectors], dim=-1) @ self.weight

    def cosines(self, images, prompts, classes):
        """Return cos(f, w_c) [R, B, C] (see `ResidualMLP.cosines`), from products of two alone."""
        of_prompt, of_class = self.weight.chunk(2, dim=1)
        first, second = prompts @ of_prompt, classes @ of_class
        products = (images * first).sum(dim=-1, keepdim=True) + images @ second.mT
        squares = (first.square().sum(dim=-1, keepdim=True) + 2 * first @ second.mT
                   + second.square().sum(dim=-1)[:, None])
        return products / squares.sqrt()


PROJECTIONS = {"mlp_residual": ResidualMLP, "linear": LinearProjection}
