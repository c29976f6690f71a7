"""Linear layers and perceptrons of R runs side by side: every weight has a leading run axis."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STREAM = 0x9E3779B9  # keeps these random numbers apart from those that order a run's images


def generators_of(seeds: Sequence[int]) -> list[torch.Generator]:
    """Return a generator for each run's random numbers."""
    return [torch.Generator().manual_seed(seed ^ STREAM) for seed in seeds]


class Linear(nn.Module):
    """R linear maps of [R, ..., size_in] to [R, ..., size_out], weight [R, size_in, size_out].

    Each run draws as `torch.nn.Linear` does, uniformly within 1 / sqrt(size_in), with its own
    one of the `generators`; `zero` starts all runs from 0 instead.
    """

    def __init__(self, generators: list[torch.Generator], size_in: int, size_out: int,
                 bias: bool = True, zero: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(_draw(generators, size_in, (size_in, size_out), zero))
        self.bias = nn.Parameter(_draw(generators, size_in, (size_out,), zero)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1, -2)
        mapped = (rows @ self.weight if self.bias is None
                  else torch.baddbmm(self.bias[:, None], rows, self.weight))
        return mapped.unflatten(1, x.shape[1:-1])


class MLP(nn.Module):
    """R perceptrons of features of size `dim`: linear, GELU, linear (from 0 at first if `zero`).

    The input is one normalised feature, or `inputs` of them side by side. Layers expect features of
    norm sqrt(dim), so they are scaled on the way in and back on the way out; at norm 1, GELU would
    be nearly linear and the output nearly constant.
    """

    def __init__(self, generators: list[torch.Generator], dim: int, hidden: int, inputs: int = 1,
                 zero: bool = False) -> None:
        super().__init__()
        self.scale = dim ** 0.5
        self.first = Linear(generators, inputs * dim, hidden)
        self.second = Linear(generators, hidden, dim, zero=zero)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.first(self.scale * x))

    def output(self, hidden: Tensor) -> Tensor:
        """Return the output [..., dim] for an output of the first layer."""
        return self.second(F.gelu(hidden)) / self.scale


class ContextNetwork(nn.Module):
    """R networks linear - ReLU - linear that turn features [R, N, d] into context [R, N, D].

    The hidden layer has d / 16 units, as in CoCoOp's meta-network.
    """

    def __init__(self, generators: list[torch.Generator], size_in: int, size_out: int) -> None:
        super().__init__()
        hidden = max(1, size_in // 16)
        self.first = Linear(generators, size_in, hidden)
        self.second = Linear(generators, hidden, size_out)

    def forward(self, features: Tensor) -> Tensor:
        return self.second(self.first(features).relu())


def _draw(generators, size_in, shape, zero):
    if zero:
        return torch.zeros(len(generators), *shape)
    draws = [2 * torch.rand(shape, generator=generator) - 1 for generator in generators]
    return torch.stack(draws) / size_in ** 0.5
