"""Estimators of mutual information: exact values, bounds, and slow plain forms."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from promptstudy.methods.mutual_information import iic, infonce, joint_distribution, jsd


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def texts(*counts):
    """Weights [C, K] of classes with these numbers of texts, fillers weighing 0."""
    present = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return present.double() / torch.tensor(counts).double()[:, None]


def identical(n_classes, sharpness):
    """Scores of views that agree: `sharpness` for a class's own text, 0 for all others."""
    return sharpness * torch.eye(n_classes, dtype=torch.float64)[None, :, :, None]


def test_infonce_is_the_cross_entropy_of_own_texts_in_both_directions():
    scores = draw(2, 5, 5, 1)
    own = torch.arange(5)
    for run, loss in enumerate(infonce(scores, texts(*[1] * 5))):
        u = scores[run, :, :, 0]
        expected = (F.cross_entropy(u, own) + F.cross_entropy(u.T, own)) / 2
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def plain_parts(scores, weights):
    """u of one run with the probability of each true pair and of each chance pair, one by one."""
    n_classes, _, n_texts = scores.shape
    true, chance = [], []
    for c, d, k in itertools.product(range(n_classes), range(n_classes), range(n_texts)):
        share = weights[d, k].item() / n_classes  # of the text among all texts
        chance.append((scores[c, d, k].item(), share / n_classes, c))
        if c == d:
            true.append((scores[c, d, k].item(), share, c))
    return true, chance


def test_infonce_with_several_texts_is_its_definition():
    weights, scores = texts(2, 1, 3), draw(1, 3, 3, 3)
    true, _ = plain_parts(scores[0], weights)
    u = scores[0]
    towards_texts = sum(math.log(sum(weights[d, k] * math.exp(u[c, d, k])
                                     for d in range(3) for k in range(3))) for c in range(3)) / 3
    towards_classes = sum(weights[d, k] / 3 * math.log(sum(math.exp(u[c, d, k]) for c in range(3)))
                          for d in range(3) for k in range(3))
    expected = (towards_texts + towards_classes) / 2 - sum(p * s for s, p, _ in true)
    assert infonce(scores, weights).item() == pytest.approx(expected.item(), rel=1e-12)


def test_jsd_with_several_texts_is_its_definition():
    weights, scores = texts(2, 1, 3), draw(1, 3, 3, 3)
    true, chance = plain_parts(scores[0], weights)
    b = -math.log(sum(p * math.exp(s) for s, p, _ in chance))
    expected = (sum(p * math.log1p(math.exp(-s - b)) for s, p, _ in true)
                + sum(p * math.log1p(math.exp(s + b)) for s, p, _ in chance))
    assert jsd(scores, weights).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [0.1, 1, 10])
@pytest.mark.parametrize("counts", [[1] * 4, [3, 1, 2, 2]])
def test_infonce_is_positive_so_its_bound_stays_below_log_c(scale, counts):
    for seed in range(20):
        scores = scale * draw(3, 4, 4, max(counts), seed=seed)
        assert (infonce(scores, texts(*counts)) > 0).all()


@pytest.mark.parametrize("n_classes", [2, 5, 40])
def test_views_that_agree_reach_log_c_and_views_that_say_nothing_have_none(n_classes):
    weights = texts(*[1] * n_classes)
    losses = [infonce(identical(n_classes, sharpness), weights).item()
              for sharpness in (0, 1, 5, 100)]
    assert losses[0] == pytest.approx(math.log(n_classes))  # a bound of 0
    assert losses == sorted(losses, reverse=True) and losses[-1] < 1e-9


def test_orthogonal_views_that_agree_say_more_the_less_they_turn_to_other_classes():
    hard, weights = torch.eye(6, dtype=torch.float64), texts(*[1] * 6)
    bounds = []
    for angle in torch.linspace(0, math.pi / 2, 7):
        soft = angle.cos() * hard + angle.sin() * hard.roll(1, dims=1)
        bounds.append(math.log(6) - infonce((soft @ hard.T / 0.05)[None, :, :, None], weights))
    assert bounds[0] == pytest.approx(math.log(6), abs=1e-7)
    assert bounds == sorted(bounds, reverse=True) and bounds[-1] < 0


def twice_jensen_shannon(n_classes):
    """2 JS(true pairs || chance pairs) of C classes that their views name without doubt.

    True pairs lie on the diagonal with probability 1 / C each, chance pairs anywhere with 1 / C^2.
    """
    true = torch.eye(n_classes, dtype=torch.float64) / n_classes
    chance = torch.full_like(true, n_classes ** -2)
    middle = (true + chance) / 2
    return (torch.xlogy(true, true / middle) + torch.xlogy(chance, chance / middle)).sum().item()


@pytest.mark.parametrize("n_classes", [2, 3, 50])
def test_jsd_of_views_that_agree_is_their_jensen_shannon_divergence(n_classes):
    weights = texts(*[1] * n_classes)
    exact = twice_jensen_shannon(n_classes)
    assert 2 * math.log(2) - jsd(identical(n_classes, 100), weights).item() \
        == pytest.approx(exact, rel=1e-9)
    assert jsd(identical(n_classes, 0), weights).item() == pytest.approx(2 * math.log(2))
    for seed in range(20):  # no critic says more
        scores = 4 * draw(1, n_classes, n_classes, 1, seed=seed)
        assert 2 * math.log(2) - jsd(scores, weights).item() < exact


@pytest.mark.parametrize("estimator", [infonce, jsd])
def test_what_is_added_to_all_scores_or_weighs_nothing_does_not_matter(estimator):
    scores = draw(2, 3, 3, 2)
    loss = estimator(scores, texts(2, 2, 2))
    torch.testing.assert_close(estimator(scores + 7, texts(2, 2, 2)), loss)
    filled = torch.cat([scores, 100 * draw(2, 3, 3, 1, seed=1)], dim=-1)
    weights = torch.cat([texts(2, 2, 2), torch.zeros(3, 1, dtype=torch.float64)], dim=-1)
    torch.testing.assert_close(estimator(filled, weights), loss)
    twice = scores.repeat_interleave(2, dim=-1)  # each text said twice
    torch.testing.assert_close(estimator(twice, texts(4, 4, 4)), loss)


@pytest.mark.parametrize("estimator", [infonce, jsd])
def test_the_gradient_pulls_own_views_together_and_others_apart(estimator):
    scores = draw(1, 4, 4, 1).requires_grad_()
    gradient, = torch.autograd.grad(estimator(scores, texts(*[1] * 4)).sum(), scores)
    own = torch.eye(4, dtype=torch.bool)[None, :, :, None]
    assert (gradient[own] < 0).all() and (gradient[~own] > 0).all()
    assert gradient.sum().abs() < 1e-12


def test_losses_of_runs_are_their_own():
    scores, weights = draw(3, 4, 4, 2), texts(2, 1, 2, 2)
    for estimator in (infonce, jsd):
        together = estimator(scores, weights)
        torch.testing.assert_close(together[1:2], estimator(scores[1:2], weights))


def test_joint_distribution_counts_what_both_views_say():
    soft = F.one_hot(torch.tensor([[0, 0, 1, 2]]), 3).double()
    hard = F.one_hot(torch.tensor([[0, 1, 1, 1]]), 3).double()
    expected = torch.tensor([[2, 1, 0], [1, 2, 1], [0, 1, 0]], dtype=torch.float64) / 8
    torch.testing.assert_close(joint_distribution(soft, hard)[0], expected)


def test_iic_of_independent_views_is_zero():
    """All pairs of two views of the same images, which therefore share their marginal."""
    shares = draw(2, 7, 5).softmax(dim=-1)
    soft = shares.repeat_interleave(7, dim=1)
    hard = shares.repeat(1, 7, 1)
    assert iic(joint_distribution(soft, hard)).abs().max() < 1e-12
    assert (iic(joint_distribution(shares, shares)) < -1e-3).all()


@pytest.mark.parametrize("n_classes", [2, 5, 40])
def test_iic_is_largest_for_sure_equal_and_balanced_views(n_classes):
    sure = torch.eye(n_classes, dtype=torch.float64)[None]
    assert -iic(joint_distribution(sure, sure)).item() == pytest.approx(math.log(n_classes))
    for seed in range(10):
        soft, hard = (5 * draw(3, 60, n_classes, seed=s) for s in (seed, seed + 100))
        joint = joint_distribution(soft.softmax(-1), hard.softmax(-1))
        assert (-iic(joint) > 0).all() and (-iic(joint) < math.log(n_classes)).all()


def test_iic_is_the_mutual_information_of_a_table():
    joint = torch.tensor([[.4, .1], [.1, .4]], dtype=torch.float64)
    expected = 0.8 * math.log(0.4 / 0.25) + 0.2 * math.log(0.1 / 0.25)
    assert -iic(joint[None]).item() == pytest.approx(expected, rel=1e-12)


def test_sure_predictions_have_a_finite_gradient():
    logits = 500 * torch.eye(3).repeat(2, 1, 1)
    logits.requires_grad_()
    shares = logits.softmax(dim=-1)  # 0 and 1 in single precision
    assert (shares == 0).any()
    gradient, = torch.autograd.grad(iic(joint_distribution(shares, shares)).sum(), logits)
    assert gradient.isfinite().all()
