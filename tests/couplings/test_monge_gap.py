"""Monge gap and Sinkhorn divergence: bounds, closed forms, POT, finite differences, both costs."""

import math
from functools import partial

import numpy as np
import ot
import pytest
import torch

from flowgen.core import InputError
from flowgen.couplings import (
    AbsoluteEpsilon,
    Euclidean,
    MatrixCosts,
    PairCosts,
    Sinkhorn,
    SquaredEuclidean,
    entropic_cost,
    monge_gap,
    sinkhorn_divergence,
)
from flowgen.metrics import map_cost

EXACT = Sinkhorn(1e-11, 20_000)
COSTS = [SquaredEuclidean(), Euclidean()]
A = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
B = torch.tensor([[1.0, -0.3], [-0.3, 0.6]], dtype=torch.float64)


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.sqrt().diag() @ vectors.T


def bures_map():
    """The optimal map between centred Gaussians of covariances ``A`` and ``B``."""
    back = torch.linalg.inv(root(A))
    return back @ root(root(A) @ B @ root(A)) @ back


def rotation(angle):
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def gaussian(n, generator):
    return torch.randn(n, 2, generator=generator, dtype=torch.float64) @ root(A)


def test_optimal_map_and_rotation_have_the_gaps_of_their_closed_forms(generator):
    """Sets, as in the paper: 64 points, epsilon 0.1, so the bias is at most 0.1 log 64 = 0.416."""
    x, epsilon = gaussian(64, generator), AbsoluteEpsilon(0.1)
    bias = 0.1 * math.log(64)
    assert bias == pytest.approx(0.416, abs=5e-4)
    gap = partial(monge_gap, x, epsilon=epsilon, solver=Sinkhorn(1e-6, 20_000))
    optimal = float(gap(x @ bures_map()))
    assert map_cost(x, x @ bures_map()).gap == pytest.approx(0, abs=1e-12)
    assert 0 < optimal < bias
    turned = x @ rotation(2.0).T
    exact = map_cost(x, turned).gap
    assert exact > 3
    assert exact < float(gap(turned)) < exact + bias


def test_the_three_forms_of_the_gap_differ_by_constants(generator):
    """POT's plan with -e H(P), with e KL, and without either, against the one that is returned."""
    x = gaussian(64, generator)
    y, epsilon = x @ rotation(2.0).T + 0.3, 0.4
    cost = torch.cdist(x, y).square().numpy()
    uniform = np.full(64, 1 / 64)
    plan = ot.bregman.sinkhorn_log(uniform, uniform, cost, epsilon, 50_000, stopThr=1e-9)
    paid = float((x - y).square().sum(dim=1).mean())
    entropy = -(plan * np.log(plan)).sum()
    with_entropy = paid - ((plan * cost).sum() - epsilon * entropy)
    kl = (plan * np.log(plan * 64 * 64)).sum()
    with_kl = paid - ((plan * cost).sum() + epsilon * kl)
    found = float(monge_gap(x, y, epsilon=AbsoluteEpsilon(epsilon), solver=Sinkhorn(1e-8, 50_000)))
    offset = epsilon * math.log(64)
    assert with_entropy - with_kl == pytest.approx(2 * offset, rel=1e-12)
    assert found == pytest.approx(with_kl + offset, rel=1e-8)
    assert found == pytest.approx(with_entropy - offset, rel=1e-8)


def test_closed_form_of_entropic_transport_in_the_limits(generator):
    x, y = gaussian(20, generator), gaussian(20, generator) + 1.5
    sharp = entropic_cost(x, y, epsilon=AbsoluteEpsilon(1e-3), solver=Sinkhorn(1e-8, 100_000))
    squares = torch.cdist(x, y).square()
    least = ot.emd2([], [], squares.numpy())
    assert float(sharp) == pytest.approx(least + 1e-3 * math.log(20), rel=1e-7)
    blurred = entropic_cost(x, y, epsilon=AbsoluteEpsilon(1e6), solver=EXACT)
    assert float(blurred) == pytest.approx(float(squares.mean()), rel=1e-5)


@pytest.mark.parametrize("cost", COSTS, ids=repr)
@pytest.mark.parametrize("what", [monge_gap, sinkhorn_divergence])
def test_the_gradient_is_that_of_finite_differences(cost, what, generator):
    x = gaussian(12, generator)
    ends = (x @ rotation(1.0).T + 0.2).requires_grad_()
    solver = Sinkhorn(1e-12, 20_000)
    value = partial(what, epsilon=AbsoluteEpsilon(1.0), cost=cost, solver=solver)
    sides = (x, ends) if what is monge_gap else (ends, x + 0.7)
    (gradient,) = torch.autograd.grad(value(*sides), ends)
    step = 1e-5
    for place in ((0, 0), (3, 1), (11, 0)):
        change = torch.zeros_like(ends)
        change[place] = step

        def moved(sign, change=change):
            at = ends.detach() + sign * change
            return float(value(x, at) if what is monge_gap else value(at, x + 0.7))

        slope = (moved(1) - moved(-1)) / (2 * step)
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_the_gap_is_convex_in_the_ends(generator):
    """For squared costs: half of the way between two maps has at most the mean of their gaps."""
    x = gaussian(16, generator)
    gap = partial(monge_gap, x, epsilon=AbsoluteEpsilon(2.0), solver=Sinkhorn(1e-8))
    strict = 0
    for _ in range(6):
        one, other = (torch.randn(16, 2, generator=generator).double() * 2 for _ in range(2))
        between, mean = gap((one + other) / 2), (gap(one) + gap(other)) / 2
        assert float(between) <= float(mean) + 1e-7
        strict += bool(between < mean - 1e-3)
    assert strict > 3


@pytest.mark.parametrize("cost", COSTS, ids=repr)
def test_divergence_vanishes_for_equal_sets_alone(cost, generator):
    x = gaussian(24, generator)
    divergence = partial(sinkhorn_divergence, epsilon=0.2, cost=cost, solver=EXACT)
    assert float(divergence(x, x.flip(0))) == pytest.approx(0, abs=1e-10)
    assert float(divergence(x, gaussian(30, generator))) > 1e-3


def test_divergence_of_a_shift_is_its_squared_length(generator):
    x, shift = gaussian(24, generator), torch.tensor([0.5, -2.0], dtype=torch.float64)
    found = sinkhorn_divergence(x, x + shift, epsilon=AbsoluteEpsilon(0.5), solver=EXACT)
    assert float(found) == pytest.approx(float(shift.square().sum()), rel=1e-9)


def test_a_matrix_of_costs_has_the_plan_of_those_costs(generator):
    x, y = gaussian(15, generator), gaussian(22, generator) * 2 + 1
    plans = []
    for costs in (PairCosts(x, y), MatrixCosts(torch.cdist(x, y).square())):
        assert costs.std == pytest.approx(PairCosts(x, y).std, rel=1e-10)
        plans.append(EXACT(costs, 0.1 * costs.std))
    one, other = (torch.cat([logs for _, logs in plan.log_rows()]) for plan in plans)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-7)
    assert plans[0].cost == pytest.approx(plans[1].cost, rel=1e-9)
    assert plans[0].dual == pytest.approx(plans[1].dual, rel=1e-9)


def test_single_precision_is_near_double(generator):
    x = gaussian(300, generator)
    y = x @ rotation(0.5).T + 3
    double = float(monge_gap(x, y))
    assert float(monge_gap(x.float(), y.float())) == pytest.approx(double, rel=1e-3)


def test_bad_input():
    x = torch.zeros(3, 2)
    with pytest.raises(InputError, match="gives each point one end"):
        monge_gap(x, torch.zeros(4, 2))
    with pytest.raises(InputError, match="points of one shape"):
        entropic_cost(x, torch.zeros(3, 3))
    with pytest.raises(InputError, match="epsilon must be > 0"):
        monge_gap(x, x, epsilon=0.0)
    with pytest.raises(InputError, match="finite"):
        entropic_cost(x, x * math.nan, cost=Euclidean())
