"""Bounds on mutual information: known values, what none of them exceeds, slow plain forms."""

import itertools
import math

import pytest
import torch

from promptstudy.methods.mutual_information import BOUNDS, infonce, jsd, mine

EACH = pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distribution(*shape, seed=0):
    """True and chance pairs [A, B] of a random joint distribution of two variables."""
    true = (1.5 * draw(*shape, seed=seed)).flatten().softmax(dim=0).view(shape)
    return true, true.sum(dim=1, keepdim=True) * true.sum(dim=0)


def one_to_one(count):
    """True and chance pairs of `count` pairs of which every value is in one alone."""
    true = torch.eye(count, dtype=torch.float64) / count
    return true, torch.full_like(true, count ** -2)


def information(true, chance):
    return torch.xlogy(true, true / chance).sum().item()


def twice_jensen_shannon(true, chance):
    middle = (true + chance) / 2
    return information(true, middle) + information(chance, middle)


def plain(bound, u, true, chance):
    """A bound of one run, pair by pair in plain numbers."""
    (rows, columns), u = u.shape, u.tolist()
    pairs = list(itertools.product(range(rows), range(columns)))
    if bound is mine:
        return (sum(true[a, b].item() * u[a][b] for a, b in pairs)
                - math.log(sum(chance[a, b].item() * math.exp(u[a][b]) for a, b in pairs)))
    if bound is infonce:
        def ratio(a, b, among):  # of a pair's e^u and the mean of those that share its x, or its y
            weight = sum(chance[pair].item() for pair in among)
            mean = sum(chance[pair].item() * math.exp(u[pair[0]][pair[1]])
                       for pair in among) / weight
            return math.log(math.exp(u[a][b]) / mean)

        return sum(true[a, b].item() / 2
                   * (ratio(a, b, [(a, other) for other in range(columns)])
                      + ratio(a, b, [(other, b) for other in range(rows)])) for a, b in pairs)
    offset = math.log(sum(chance[a, b].item() * math.exp(u[a][b]) for a, b in pairs))
    return 2 * math.log(2) - sum(
        true[a, b].item() * math.log1p(math.exp(offset - u[a][b]))
        + chance[a, b].item() * math.log1p(math.exp(u[a][b] - offset)) for a, b in pairs)


@EACH
def test_each_bound_is_its_definition_for_every_run(bound):
    scores = draw(3, 4, 5)
    true, chance = distribution(4, 5, seed=1)
    expected = [plain(bound, u, true, chance) for u in scores]
    assert bound(scores, true, chance).tolist() == pytest.approx(expected, rel=1e-12)
    of_runs = torch.stack([distribution(4, 5, seed=seed)[0] for seed in (2, 3, 4)])
    found = bound(scores, of_runs, chance)
    for run in range(3):
        alone = bound(scores[run:run + 1], of_runs[run], chance)
        torch.testing.assert_close(found[run:run + 1], alone)


def test_infonce_of_pairs_is_log_n_minus_the_cross_entropies():
    scores, own = draw(2, 6, 6), torch.arange(6)
    losses = torch.stack([(torch.nn.functional.cross_entropy(u, own)
                           + torch.nn.functional.cross_entropy(u.T, own)) / 2 for u in scores])
    torch.testing.assert_close(infonce(scores, *one_to_one(6)), math.log(6) - losses)


@EACH
def test_independent_variables_have_no_information(bound):
    _, chance = distribution(4, 5)
    for seed in range(20):
        assert (bound(3 * draw(2, 4, 5, seed=seed), chance, chance) < 1e-12).all()


@EACH
def test_a_critic_that_says_nothing_finds_nothing(bound):
    true, chance = distribution(4, 5)
    assert bound(torch.full((1, 4, 5), 3.0), true, chance).item() == pytest.approx(0, abs=1e-12)


@EACH
def test_the_best_critic_is_the_log_ratio_and_no_critic_says_more(bound):
    true, chance = distribution(4, 5)
    exact = (twice_jensen_shannon if bound is jsd else information)(true, chance)
    best = (true / chance).log()[None]
    assert bound(best, true, chance).item() == pytest.approx(exact, rel=1e-12)
    for seed, spread in itertools.product(range(20), (0.1, 1, 5)):
        assert bound(best + spread * draw(1, 4, 5, seed=seed), true, chance).item() < exact


@EACH
def test_gradient_ascent_on_the_scores_finds_the_information(bound):
    true, chance = distribution(2, 3)
    scores = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = -bound(scores, true, chance).sum()
        value.backward()
        return value

    optimizer.step(loss)
    exact = (twice_jensen_shannon if bound is jsd else information)(true, chance)
    assert bound(scores, true, chance).item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("rho", [0.3, 0.7])
@EACH
def test_samples_of_a_gaussian_pair_have_its_information(bound, rho):
    """Normal x and y of correlation rho have -log(1 - rho^2) / 2 nats in common."""
    def log_ratio(x, y):
        return ((2 * rho * x * y - rho**2 * (x**2 + y**2)) / (2 * (1 - rho**2))
                - math.log(1 - rho**2) / 2)

    if bound is jsd:  # its divergence has no closed form: integrate
        axis = torch.linspace(-7, 7, 401, dtype=torch.float64)
        density = (-axis**2 / 2).exp()
        chance = density[:, None] * density / density.sum()**2
        true = chance * log_ratio(axis[:, None], axis).exp()
        exact = twice_jensen_shannon(true / true.sum(), chance)
    else:
        exact = -math.log(1 - rho**2) / 2
    x, noise = draw(2, 1200)
    y = rho * x + (1 - rho**2)**0.5 * noise
    scores, pairs = log_ratio(x[:, None], y)[None], one_to_one(1200)
    found = bound(scores, *pairs).item()
    assert found == pytest.approx(exact, abs=0.05)
    assert bound(3 * scores, *pairs).item() < found > bound(scores / 3, *pairs).item()


@pytest.mark.parametrize("count", [2, 5, 40])
@EACH
def test_views_that_agree_say_all_there_is(bound, count):
    pairs = one_to_one(count)
    exact = twice_jensen_shannon(*pairs) if bound is jsd else math.log(count)
    found = [bound(sharpness * torch.eye(count, dtype=torch.float64)[None], *pairs).item()
             for sharpness in (0, 1, 5, 100)]
    assert found == sorted(found) and found[0] == pytest.approx(0, abs=1e-9)
    assert found[-1] == pytest.approx(exact, rel=1e-9)
    for seed in range(20):
        assert bound(4 * draw(1, count, count, seed=seed), *pairs).item() < exact


@EACH
def test_order_of_pairs_direction_constants_and_impossible_pairs_do_not_matter(bound):
    scores, (true, chance) = draw(2, 4, 5), distribution(4, 5)
    found = bound(scores, true, chance)
    rows, columns = torch.tensor([2, 0, 3, 1]), torch.tensor([4, 2, 0, 1, 3])
    moved = [t[..., rows, :][..., columns] for t in (scores, true, chance)]
    torch.testing.assert_close(bound(*moved), found)
    torch.testing.assert_close(bound(*(t.mT for t in (scores, true, chance))), found)
    torch.testing.assert_close(bound(scores + 7, true, chance), found)
    empty = torch.zeros(4, 1, dtype=torch.float64)
    more = torch.cat([scores, 9 * draw(2, 4, 1, seed=1)], dim=-1)
    more.requires_grad_()
    filled = bound(more, *(torch.cat([t, empty], dim=-1) for t in (true, chance)))
    torch.testing.assert_close(filled, found)
    gradient, = torch.autograd.grad(filled.sum(), more)
    assert gradient.isfinite().all() and gradient[..., -1].abs().max() < 1e-12


@EACH
def test_the_gradient_pulls_true_pairs_together_and_others_apart(bound):
    scores = draw(1, 4, 4).requires_grad_()
    gradient, = torch.autograd.grad(bound(scores, *one_to_one(4)).sum(), scores)
    own = torch.eye(4, dtype=torch.bool)[None]
    assert (gradient[own] > 0).all() and (gradient[~own] < 0).all()
    assert gradient.sum().abs() < 1e-12
