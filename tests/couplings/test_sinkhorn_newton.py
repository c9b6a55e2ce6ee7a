"""Newton steps with a sparse Hessian against POT, finite differences and the assignment."""

from typing import Any

import numpy as np
import ot
import pytest
import scipy.optimize
import torch

from flowgen.core import InputError
from flowgen.couplings import EntropicSolver, PairCosts, Sinkhorn, SinkhornNewtonSparse
from flowgen.couplings.sinkhorn_newton import _Dual, _largest


def clouds(n, m, d, generator):
    x_0 = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x_0, 2.5 * torch.randn(m, d, generator=generator, dtype=torch.float64) + 1.5


def weights(n, generator):
    w = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    return w / w.sum()


def plan_of(plan):
    return torch.cat([logs.exp() for _, logs in plan.log_rows()])


def random_costs(n, generator):
    """Costs that are uniform on [0, 1], as products of points with unit vectors."""
    cost = torch.rand(n, n, generator=generator, dtype=torch.float64)
    return cost, PairCosts(cost, -torch.eye(n, dtype=torch.float64))


@pytest.mark.parametrize("share", [1.0, 0.1, 0.02])
def test_the_plan_is_that_of_pot_with_any_weights(share, generator):
    x_0, x_1 = clouds(30, 20, 3, generator)
    a, b = weights(30, generator), weights(20, generator)
    costs = PairCosts(x_0, x_1, a, b)
    solve = SinkhornNewtonSparse(1e-12)
    assert isinstance(solve, EntropicSolver)
    plan = solve(costs, share * costs.std)
    cost = torch.cdist(x_0, x_1).square().numpy()
    theirs = ot.bregman.sinkhorn_log(
        a.numpy(), b.numpy(), cost, 2 * plan.epsilon, 100_000, stopThr=1e-13
    )
    assert plan.converged
    assert np.allclose(plan_of(plan).numpy(), theirs, atol=1e-10, rtol=0)
    wrong = (plan.row_marginal - a).abs().sum() + (plan.column_marginal - b).abs().sum()
    assert float(wrong) == pytest.approx(plan.error, abs=1e-13)


def test_an_epsilon_too_small_for_sweeps_takes_few_steps(generator):
    """The paper's case: uniform costs, 1 / epsilon = 1200. Sweeps would be tens of thousands."""
    cost, costs = random_costs(120, generator)
    plan = SinkhornNewtonSparse(1e-10, warm_up=20)(costs, 1 / 1200)
    assert plan.converged
    assert plan.iterations < 60
    assert not Sinkhorn(1e-10, 2000)(costs, 1 / 1200).converged
    rows, columns = scipy.optimize.linear_sum_assignment(cost.numpy())
    # Costs above the least one by entropy only: at most epsilon log n.
    mean = float((plan_of(plan) * cost).sum())
    least = float(cost.numpy()[rows, columns].mean())
    assert least - 1e-12 < mean < least + np.log(120) / 1200


def test_the_gradient_is_that_of_the_dual(generator):
    x_0, x_1 = clouds(5, 4, 2, generator)
    dual = _Dual(PairCosts(x_0, x_1), 0.7)
    z = torch.randn(9, generator=generator, dtype=torch.float64).numpy()
    gradient = dual.gradient(dual.at(z)[1])
    for i in range(9):
        step = np.zeros(9)
        step[i] = 1e-6
        slope = (dual.at(z + step)[0] - dual.at(z - step)[0]) / 2e-6
        assert slope == pytest.approx(gradient[i], rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dropped", [1e-5, 0.05])
def test_what_the_hessian_leaves_out_is_bounded(dropped, generator):
    _, costs = random_costs(60, generator)
    plan = plan_of(Sinkhorn(1e-3, 500)(costs, 0.003)).numpy()
    kept = _largest(plan, dropped)
    assert kept.nnz < plan.size / 3
    assert plan.sum() * (1 - dropped) <= kept.sum() < plan.sum()
    assert kept.toarray()[kept.toarray() > 0].min() >= np.sort(plan[kept.toarray() == 0])[-1]


def test_a_coarse_hessian_still_converges_and_takes_more_steps(generator):
    _, costs = random_costs(60, generator)
    fine, coarse = (
        SinkhornNewtonSparse(1e-9, dropped=share)(costs, 0.003) for share in (1e-5, 0.2)
    )
    assert fine.converged
    assert coarse.converged
    assert coarse.iterations > fine.iterations
    assert torch.allclose(plan_of(fine), plan_of(coarse), atol=1e-9)


def test_a_start_and_a_limit_count(generator):
    x_0, x_1 = clouds(40, 40, 2, generator)
    costs = PairCosts(x_0, x_1)
    cold = SinkhornNewtonSparse(1e-9)(costs, 0.02 * costs.std)
    warm = SinkhornNewtonSparse(1e-9)(costs, 0.02 * costs.std, start=cold.f)
    assert warm.iterations < cold.iterations / 5
    given_up = SinkhornNewtonSparse(1e-12, warm_up=4, max_steps=1)(costs, 0.001 * costs.std)
    assert not given_up.converged
    assert given_up.error > 1e-12


def test_points_without_spread_have_the_independent_plan():
    plan = SinkhornNewtonSparse()(PairCosts(torch.ones(4, 2), torch.zeros(4, 2)), 1.0)
    assert plan.converged
    assert torch.allclose(plan_of(plan), torch.full((4, 4), 1 / 16).double())


def test_bad_numbers_and_too_many_pairs_are_refused(generator):
    bad: list[dict[str, Any]] = [
        {"tolerance": 0.0},
        {"warm_up": 0},
        {"max_steps": 0},
        {"dropped": 1.0},
    ]
    for settings in bad:
        with pytest.raises(InputError, match=next(iter(settings))):
            SinkhornNewtonSparse(**settings)
    x_0, x_1 = clouds(6, 6, 2, generator)
    with pytest.raises(InputError, match="use Sinkhorn"):
        SinkhornNewtonSparse()(PairCosts(x_0, x_1, max_elements=35), 1.0)
    with pytest.raises(InputError, match="epsilon must be > 0"):
        SinkhornNewtonSparse()(PairCosts(x_0, x_1), 0.0)
