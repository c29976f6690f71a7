"""AAPE's prompt aggregators: from the reference prompts of an image to one summary p^a.

Each is called with normalised image features f [R, B, d], the reference prompts E [R, B, K, d] of
every image and their weights [R, B, K] (0 for fillers, which take no part) and returns p^a
[R, B, d], normalised. None adds the image itself: a summary that could copy f would carry no
language. Inferred from the abstract, but for the attention (see `aape`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ParamsError
from .stacked import MLP, Linear


class Attention(nn.Module):
    """Multi-head attention over the reference prompts with the image as query.

    With head h's weights a_hk = softmax_k(f W_q^h . E_k W_k^h d / sqrt(d_h)) and E_mean the mean
    prompt, `values="learned"` gives p^a = norm(E_mean + W_o concat_h(sum_k a_hk E_k W_v^h)), with
    W_o = 0 at first, and `values="identity"` norm(sum_k a_k E_k), a_k being the mean of the a_hk: a
    convex combination of the prompts. There is no code of position, so their order does not
    matter. In training a share `dropout` of the a_hk is 0 in each step and the others are larger by
    1 / (1 - dropout). Raises `ParamsError` for a number of heads that does not divide d.
    """

    def __init__(self, generators: list[torch.Generator], dim: int, heads: int, values: str,
                 dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ParamsError(f"{heads} heads do not divide features of size {dim}")
        self.heads, self.values = heads, values
        self.dropout, self.generators = dropout, generators
        # features have norm 1 where an attention layer expects sqrt(d) of query and key
        self.scale = dim / (dim // heads) ** 0.5
        self.query = Linear(generators, dim, dim, bias=False)
        self.key = Linear(generators, dim, dim, bias=False)
        if values == "learned":
            self.value = Linear(generators, dim, dim, bias=False)
            self.out = Linear(generators, dim, dim, bias=False, zero=True)

    def weights(self, images: Tensor, prompts: Tensor, weights: Tensor) -> Tensor:
        """Return each head's weights a_hk [R, B, H, K] over the prompts of an image."""
        # W_k is applied to the one query, not to the K prompts, and W_v to their weighted sum
        query = torch.einsum("rbhe,rdhe->rbhd", self.query(images).unflatten(-1, (self.heads, -1)),
                             self.key.weight.unflatten(-1, (self.heads, -1)))
        scores = self.scale * torch.einsum("rbhd,rbkd->rbhk", query, prompts)
        return scores.masked_fill(weights[:, :, None] == 0, -torch.inf).softmax(dim=-1)

    def forward(self, images: Tensor, prompts: Tensor, weights: Tensor) -> Tensor:
        attention = self.weights(images, prompts, weights)
        if self.training and self.dropout:
            kept = _draw(self.generators, attention) >= self.dropout
            attention = attention * kept / (1 - self.dropout)
        if self.values == "identity":
            return _mean(prompts, attention.mean(dim=2))
        mixed = torch.einsum("rbhk,rbkd->rbhd", attention, prompts)
        value = self.value.weight.unflatten(-1, (self.heads, -1))
        out = self.out(torch.einsum("rbhd,rdhe->rbhe", mixed, value).flatten(-2))
        return F.normalize(torch.einsum("rbk,rbkd->rbd", weights, prompts) + out, dim=-1)


class Mean(nn.Module):
    """The normalised mean prompt, which the image has no part in."""

    def forward(self, images: Tensor, prompts: Tensor, weights: Tensor) -> Tensor:
        return _mean(prompts, weights)


class Random(nn.Module):
    """One of the prompts, drawn anew whenever an image is seen, from each run's generator."""

    def __init__(self, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.generators = generators

    def forward(self, images: Tensor, prompts: Tensor, weights: Tensor) -> Tensor:
        lots = _draw(self.generators, weights).masked_fill(weights == 0, -1)
        return _mean(prompts, F.one_hot(lots.argmax(dim=-1), lots.shape[-1]).to(prompts.dtype))


class Perceptron(nn.Module):
    """norm(E_mean + MLP(E_mean)): learned, but blind to the image and to single prompts."""

    def __init__(self, generators: list[torch.Generator], dim: int) -> None:
        super().__init__()
        self.mlp = MLP(generators, dim, hidden=dim, zero=True)

    def forward(self, images: Tensor, prompts: Tensor, weights: Tensor) -> Tensor:
        mean = torch.einsum("rbk,rbkd->rbd", weights, prompts)
        return F.normalize(mean + self.mlp(mean), dim=-1)


def _draw(generators, like):
    """Random numbers in [0, 1) of the shape of `like` [R, ...], each run's from its generator."""
    draws = [torch.rand(like.shape[1:], generator=generator) for generator in generators]
    return torch.stack(draws).to(like.device)


def _mean(prompts, weights):
    return F.normalize(torch.einsum("rbk,rbkd->rbd", weights, prompts), dim=-1)
