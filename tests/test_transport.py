"""Sinkhorn: its plans, their limits, their gradients, and another library's plans."""

import math

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from promptstudy.methods import transport
from promptstudy.methods.transport import sinkhorn


def problem(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(*shape, seed=1):
    values = problem(*shape, seed=seed) + 0.2
    return values / values.sum(-1, keepdim=True)


@pytest.mark.parametrize("shape", [(1, 1), (9, 4), (3, 2, 4, 7), (2, 3, 1, 5)])
@pytest.mark.parametrize("epsilon", [0.05, 1.0, math.inf])
def test_columns_are_exact_and_rows_close(shape, epsilon):
    plan = sinkhorn(problem(*shape), epsilon, 200)
    assert plan.shape == shape and (plan >= 0).all()
    assert (plan.sum(-2) - 1 / shape[-1]).abs().max() < 1e-12
    assert (plan.sum(-1) - 1 / shape[-2]).abs().max() < 1e-6
    few = sinkhorn(problem(*shape), epsilon, 1)
    assert (few.sum(-2) - 1 / shape[-1]).abs().max() < 1e-12


def test_given_weights_are_kept_and_what_weighs_nothing_takes_no_part():
    cost, rows, columns = problem(2, 3, 4, 6), weights(4), weights(3, 6)
    columns[1, 4:] = 0
    columns = columns / columns.sum(-1, keepdim=True)
    plan = sinkhorn(cost, 0.2, 200, rows, columns)
    torch.testing.assert_close(plan.sum(-2), columns.expand(2, -1, -1))
    torch.testing.assert_close(plan.sum(-1), rows.expand(2, 3, -1), rtol=1e-6, atol=0)
    alone = sinkhorn(cost[:, 1, :, :4], 0.2, 200, rows, columns[1, :4])
    torch.testing.assert_close(plan[:, 1, :, :4], alone)


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("n, m", [(9, 4), (4, 13), (6, 6)])
def test_plans_equal_those_of_the_pot_library(n, m, epsilon):
    cost, rows, columns = problem(5, n, m), weights(5, n), weights(5, m, seed=2)
    plans = sinkhorn(cost, epsilon, 500, rows, columns)
    for plan, *arguments in zip(plans, rows, columns, cost, strict=True):
        expected = ot.sinkhorn(*(t.numpy() for t in arguments), epsilon, method="sinkhorn_log",
                               numItermax=5000, stopThr=1e-13)
        assert np.abs(plan.numpy() - expected).max() < 1e-6


def test_plans_follow_the_order_of_rows_and_columns():
    cost = problem(3, 5, 7)
    rows, columns = torch.randperm(5), torch.randperm(7)
    plan = sinkhorn(cost, 0.1, 50)
    shuffled = sinkhorn(cost[:, rows][:, :, columns], 0.1, 50)
    torch.testing.assert_close(shuffled, plan[:, rows][:, :, columns])


def test_problems_are_solved_independently():
    cost = problem(4, 3, 5, 2)
    together = sinkhorn(cost, 0.1, 30)
    torch.testing.assert_close(together[2, 1], sinkhorn(cost[2, 1], 0.1, 30))


def test_with_much_entropy_the_plan_is_the_product_of_the_weights():
    rows, columns = weights(4), weights(6)
    product = rows[:, None] * columns
    cost = problem(4, 6)
    torch.testing.assert_close(sinkhorn(cost, math.inf, 1, rows, columns), product)
    errors = [(sinkhorn(cost, epsilon, 50, rows, columns) - product).abs().max()
              for epsilon in (1, 10, 100)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_with_little_entropy_the_plan_is_the_assignment():
    cost = problem(6, 6, seed=3)
    assignment = torch.zeros(6, 6, dtype=torch.float64)
    assignment[linear_sum_assignment(cost.numpy())] = 1 / 6
    errors = [(sinkhorn(cost, epsilon, 5000) - assignment).abs().max()
              for epsilon in (0.1, 0.03, 0.003)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-4


def regularised_cost(cost, epsilon, iterations=500):
    """The minimum that the plan attains, with autograd through every iteration (rows first)."""
    n, m = cost.shape
    u, v = torch.ones(n, dtype=cost.dtype) / n, torch.ones(m, dtype=cost.dtype) / m
    kernel = (-cost / epsilon).exp()
    b = torch.ones_like(v)
    for _ in range(iterations):
        a = u / (kernel @ b)
        b = v / (kernel.T @ a)
    plan = a[:, None] * kernel * b
    return (plan * (cost + epsilon * plan.log())).sum()


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_the_plan_is_the_gradient_of_the_regularised_cost(epsilon):
    cost = problem(5, 3).requires_grad_()
    gradient, = torch.autograd.grad(regularised_cost(cost, epsilon), cost)
    plan = sinkhorn(cost, epsilon, 500)
    torch.testing.assert_close(gradient, plan, rtol=1e-6, atol=1e-9)
    step = torch.zeros_like(cost)
    step[2, 1] = 1e-5
    with torch.no_grad():
        slope = (regularised_cost(cost + step, epsilon)
                 - regularised_cost(cost - step, epsilon)) / 2e-5
    assert slope.item() == pytest.approx(plan[2, 1].item(), rel=1e-5)


def test_no_gradient_flows_through_a_plan():
    cost = problem(3, 4).requires_grad_()
    plan = sinkhorn(cost, 0.1, 10)
    assert not plan.requires_grad
    gradient, = torch.autograd.grad((plan * cost).sum(), cost)
    assert torch.equal(gradient, plan)


def test_nothing_is_read_back_from_the_device():
    # tensors without values: reading one raises
    cost = torch.empty(2, 100, 9, 4, device="meta")
    assert sinkhorn(cost, 0.1, 5, column_weights=torch.empty(100, 4, device="meta")).is_meta


@pytest.mark.parametrize("epsilon", [transport.PLAIN, 0.1, 1.0, math.inf])
def test_without_logarithms_the_plans_are_the_same(epsilon, monkeypatch):
    """In single precision, for the largest costs that cosine distances can have."""
    cost, columns = 2 * problem(50, 9, 4).float(), weights(50, 4).float()
    cost[0] = torch.tensor([0.0, 2.0]).repeat(18).view(9, 4)
    columns[:, 3] = 0
    columns = columns / columns.sum(-1, keepdim=True)
    plan = sinkhorn(cost, epsilon, 50, column_weights=columns)
    monkeypatch.setattr(transport, "_fit", transport._fit_in_logarithms)
    torch.testing.assert_close(plan, sinkhorn(cost, epsilon, 50, column_weights=columns),
                               rtol=1e-4, atol=1e-7)


def test_single_precision_does_not_overflow_at_small_epsilon():
    plan = sinkhorn(2 * problem(8, 9, 4).float(), 1e-3, 100)
    assert plan.isfinite().all()
    assert (plan.sum(-2) - 1 / 4).abs().max() < 1e-5
