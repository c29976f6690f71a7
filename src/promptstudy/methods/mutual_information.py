"""The mutual information of two views, estimated by what tells true pairs from chance pairs.

The views are of a class's text: X is a class, drawn uniformly from C, with its soft view s_c; Y is
one of the K texts of a class's hand-crafted view, h_ck, which weighs w_ck within its class. True
pairs belong to one class; chance pairs are drawn independently. A critic u scores every pair, here
u = s_c . h_c'k / tau. All losses are for R runs at once and in nats.
"""

import math

import torch
from torch.nn import functional as F


def infonce(scores, weights):
    """Return L [R], the symmetric InfoNCE loss of scores u [R, C, C, K] with weights w [C, K].

    L = log C - mean of u over true pairs + (mean_s log mean_h e^u + mean_h log mean_s e^u) / 2, the
    inner means over all classes: with one text a class the usual cross-entropy of a class's own
    text among all, in both directions; several texts are several positives. L >= 0, and by Donsker
    and Varadhan's inequality for every s, and for every h, I(X; Y) >= log C - L (van den Oord et
    al., 2018), which therefore cannot say more than log C.
    """
    among_texts = torch.logsumexp(scores + weights.log(), dim=(2, 3)).mean(dim=-1)
    among_classes = (weights * torch.logsumexp(scores, dim=1)).sum(dim=-1).mean(dim=-1)
    return (among_texts + among_classes) / 2 - _true_pairs(scores, weights)


def jsd(scores, weights):
    """Return L [R], Deep InfoMax's loss (Hjelm et al., ICLR 2019) of scores u [R, C, C, K].

    L = mean softplus(-u - b) over true pairs + mean softplus(u + b) over chance pairs, and
    2 log 2 - L is at most twice the Jensen-Shannon divergence of the two kinds of pairs. The best
    critic is the log of their density ratio, so b is such that e^(u + b) averages to 1 over chance
    pairs, as that ratio does (inferred; nothing more is learned).
    """
    n_classes = len(weights)
    chance = weights.log() - 2 * math.log(n_classes)  # of every pair, the same for all s
    ratio = scores - torch.logsumexp(scores + chance, dim=(1, 2, 3), keepdim=True)
    return (_true_pairs(F.softplus(-ratio), weights)
            + (chance.exp() * F.softplus(ratio)).sum(dim=(1, 2, 3)))


def joint_distribution(soft, hard):
    """Return P [R, C, C], how often the views name classes a and b for the same image.

    soft, hard: their class probabilities [R, B, C] for a batch; P is made symmetric, since neither
    view comes first (IIC; Ji, Henriques and Vedaldi, ICCV 2019).
    """
    joint = soft.mT @ hard / soft.shape[1]
    return (joint + joint.mT) / 2


def iic(joint):
    """Return L [R] = -sum_ab P_ab log(P_ab / (P_a P_b)): I = -L, at most log C and 0 for chance."""
    joint = joint.clamp(min=torch.finfo(joint.dtype).tiny)  # log 0 has no gradient
    marginal = joint.sum(dim=-1).log()
    return -(joint * (joint.log() - marginal[:, :, None] - marginal[:, None])).sum(dim=(1, 2))


def _true_pairs(values, weights):
    """The mean [R] of values [R, C, C, K] over the pairs of a class's own views."""
    own = values.diagonal(dim1=1, dim2=2).mT  # [R, C, K]
    return (weights * own).sum(dim=-1).mean(dim=-1)
