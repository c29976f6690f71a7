"""Entropic optimal transport: Sinkhorn's algorithm (Cuturi, NeurIPS 2013)."""

import torch
from torch import Tensor

# With costs of at most 2 and at least this entropy, exp(-cost / epsilon) is at least 1e-22. That is
# far from underflow, so the slow computation with logarithms is not needed.
PLAIN = 0.04


@torch.no_grad()
def sinkhorn(cost: Tensor, epsilon: float, iterations: int, row_weights: Tensor | None = None,
             column_weights: Tensor | None = None) -> Tensor:
    """Return the transport plans [..., n, m] of cost matrices [..., n, m], all solved at once.

    Costs are between 0 and 2, as cosine distances are. A plan minimises
    sum_ij P_ij (cost_ij + epsilon log P_ij) among all P >= 0 whose rows sum to `row_weights`
    [..., n] and columns to `column_weights` [..., m]. Weights add up to 1 (None: uniform), and
    entries of weight 0 take no part. With epsilon = inf the plan is the product of the weights; the
    smaller epsilon, the closer the plan is to an unregularised one, and the more iterations it
    takes.

    The algorithm fits rows and columns in turn and ends with the columns, so that column sums
    are exact and row sums are as close as `iterations` allow. The number of iterations is fixed, as
    deciding when to stop would mean waiting for the device. No gradient flows through a plan, and
    none has to: the derivative of the minimum with respect to `cost` is the plan itself (envelope
    theorem), which is also the gradient of `(plan * cost).sum()` with the plan held fixed.
    """
    n, m = cost.shape[-2:]
    # rows and columns first: reductions then run over long contiguous stretches of problems
    log_kernel = (-cost / epsilon).movedim((-2, -1), (0, 1)).contiguous()
    rows = _weights(row_weights, n, log_kernel)[:, None]
    columns = _weights(column_weights, m, log_kernel)[None]
    fit = _fit if epsilon >= PLAIN else _fit_in_logarithms
    return fit(log_kernel, rows, columns, iterations).movedim((0, 1), (-2, -1))


def _fit(log_kernel, rows, columns, iterations):
    """Scale rows and columns of exp(log_kernel) in turn."""
    kernel, right = log_kernel.exp(), torch.ones_like(columns)
    for _ in range(iterations):
        left = rows / (kernel * right).sum(dim=1, keepdim=True)
        right = columns / (kernel * left).sum(dim=0, keepdim=True)
    return kernel * left * right


def _fit_in_logarithms(kernel, rows, columns, iterations):
    """Do the same with the logarithms of all quantities, which cannot underflow."""
    rows, columns = rows.log(), columns.log()
    right = torch.zeros_like(columns)
    for _ in range(iterations):
        left = rows - torch.logsumexp(kernel + right, dim=1, keepdim=True)
        right = columns - torch.logsumexp(kernel + left, dim=0, keepdim=True)
    return (kernel + left + right).exp()


def _weights(weights, size, kernel):
    """Weights [size, ...] that broadcast over the problems of a kernel [n, m, ...]."""
    if weights is None:
        weights = kernel.new_full((size,), 1 / size)
    weights = weights.movedim(-1, 0)
    return weights[(slice(None), *[None] * (kernel.ndim - 1 - weights.ndim))]
