"""Linear layers and perceptrons of R runs side by side: every weight has a leading run axis."""

import torch
from torch import nn
from torch.nn import functional as F


class Linear(nn.Module):
    """R linear maps of [R, ..., size_in] to [R, ..., size_out], weight [R, size_in, size_out].

    Each run draws as `torch.nn.Linear` does, uniformly within 1 / sqrt(size_in), from its own one
    of `generators`; `zero` starts all runs from 0 instead.
    """

    def __init__(self, generators, size_in, size_out, bias=True, zero=False):
        super().__init__()
        self.weight = nn.Parameter(_draw(generators, size_in, (size_in, size_out), zero))
        self.bias = nn.Parameter(_draw(generators, size_in, (size_out,), zero)) if bias else None

    def forward(self, x):
        rows = x.flatten(1, -2)
        mapped = (rows @ self.weight if self.bias is None
                  else torch.baddbmm(self.bias[:, None], rows, self.weight))
        return mapped.unflatten(1, x.shape[1:-1])


class MLP(nn.Module):
    """R perceptrons: linear, GELU, linear (which starts from 0 if `zero`)."""

    def __init__(self, generators, size_in, hidden, size_out, zero=False):
        super().__init__()
        self.first = Linear(generators, size_in, hidden)
        self.second = Linear(generators, hidden, size_out, zero=zero)

    def forward(self, x):
        return self.second(F.gelu(self.first(x)))


def _draw(generators, size_in, shape, zero):
    if zero:
        return torch.zeros(len(generators), *shape)
    draws = [2 * torch.rand(shape, generator=generator) - 1 for generator in generators]
    return torch.stack(draws) / size_in ** 0.5
