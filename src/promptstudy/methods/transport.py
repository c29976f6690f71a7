"""Entropic optimal transport: Sinkhorn's algorithm in the log domain (Cuturi, NeurIPS 2013)."""

import torch


@torch.no_grad()
def sinkhorn(cost, epsilon, iterations, row_weights=None, column_weights=None):
    """Return the transport plans [..., n, m] of cost matrices [..., n, m], all solved at once.

    A plan minimises sum_ij P_ij (cost_ij + epsilon log P_ij) among all P >= 0 whose rows sum to
    `row_weights` [..., n] and columns to `column_weights` [..., m]; weights add up to 1 (None:
    uniform), and what weighs 0 takes no part. With epsilon = inf the plan is their product, the
    smaller epsilon the closer it comes to an unregularised one, in more iterations.

    The algorithm fits rows and columns in turn and ends with the columns, so that these are exact
    while rows are as near as `iterations` allow. Their number is fixed: nothing is read back from
    the device to decide when to stop. No gradient flows through a plan, nor need it: the derivative
    of the minimum by `cost` is the plan itself (envelope theorem), the gradient of
    `(plan * cost).sum()`.
    """
    n, m = cost.shape[-2:]
    # rows and columns first: reductions then run over long contiguous stretches of problems
    kernel = (-cost / epsilon).movedim((-2, -1), (0, 1)).contiguous()
    rows = _log_weights(row_weights, n, kernel)[:, None]
    columns = _log_weights(column_weights, m, kernel)[None]
    right = torch.zeros_like(columns)
    for _ in range(iterations):
        left = rows - torch.logsumexp(kernel + right, dim=1, keepdim=True)
        right = columns - torch.logsumexp(kernel + left, dim=0, keepdim=True)
    return (kernel + left + right).exp().movedim((0, 1), (-2, -1))


def _log_weights(weights, size, kernel):
    """Log-weights [size, ...] that broadcast over the problems of a kernel [n, m, ...]."""
    if weights is None:
        weights = kernel.new_full((size,), 1 / size)
    log = weights.movedim(-1, 0).log()
    return log[(slice(None), *[None] * (kernel.ndim - 1 - log.ndim))]
