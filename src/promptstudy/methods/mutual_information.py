"""Lower bounds on mutual information, from a critic that tells true pairs from chance pairs.

A critic gives every pair (x, y) a score u. True pairs have probabilities p, those of the joint
distribution of X and Y; chance pairs have q, the product of the marginals. All bounds are in nats
and for R runs at once: u, p and q are [R, A, B], or p and q [A, B] for all runs. Each is at most 0
if p = q, whatever the critic; only a constant added to all scores changes nothing.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def infonce(u: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Return the bound [R] of InfoNCE (van den Oord et al., 2018), in both directions.

    I(X; Y) >= E_p[u - (log E_{q(y'|x)} e^u + log E_{q(x'|y)} e^u) / 2], which with one of n texts
    for each of n images is log n minus the usual cross-entropy, and so at most log n.
    """
    log_q = _log(q)
    among = [torch.logsumexp(u + log_q, dim=dim, keepdim=True)
             - torch.logsumexp(log_q, dim=dim, keepdim=True) for dim in (-1, -2)]
    return _mean(p, u - (among[0] + among[1]) / 2)


def mine(u: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Return the bound [R] of Donsker and Varadhan, which MINE maximises (Belghazi et al., 2018).

    I(X; Y) >= E_p[u] - log E_q[e^u].
    """
    return _mean(p, u) - torch.logsumexp(u + _log(q), dim=(-2, -1))


def jsd(u: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Return Deep InfoMax's bound [R] (Hjelm et al., 2019): on twice a divergence, not on I itself.

    2 JS(p, q) >= 2 log 2 - E_p[softplus(-v)] - E_q[softplus(v)], at most 2 log 2, where
    v = u - log E_q[e^u]. The best critic is log p / q, of which e^v averages to 1 over chance
    pairs; scores are moved to where that holds (inferred), so that the critic needs no offset.
    """
    v = u - torch.logsumexp(u + _log(q), dim=(-2, -1), keepdim=True)
    return 2 * math.log(2) - _mean(p, F.softplus(-v)) - _mean(q, F.softplus(v))


BOUNDS = {"infonce": infonce, "jsd": jsd, "mine": mine}


def _mean(probabilities, values):
    return (probabilities * values).sum(dim=(-2, -1))


def _log(probabilities):
    """Their logarithms; those of 0 are finite, as they have to have a gradient."""
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
