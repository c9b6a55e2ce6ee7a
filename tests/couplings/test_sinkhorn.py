"""Entropic plans against POT, a Gaussian closed form, both limits, and the pure log domain."""

from typing import Any

import numpy as np
import ot
import pytest
import torch

from flowgen.core import InputError
from flowgen.couplings import PairCosts, Plan, Sinkhorn, optimal_permutation
from flowgen.couplings.scaling import LogScaling

EXACT = 1e-11


def clouds(n, m, d, generator):
    """Clouds that share neither mean, scale nor size."""
    x_0 = torch.randn(n, d, generator=generator, dtype=torch.float64)
    x_1 = 2.5 * torch.randn(m, d, generator=generator, dtype=torch.float64) + 1.5
    return x_0, x_1 + torch.tanh(x_1)


def weights(n, generator):
    w = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    return w / w.sum()


def plan_of(plan):
    return torch.cat([logs.exp() for _, logs in plan.log_rows()])


def squared(x_0, x_1):
    return torch.cdist(x_0, x_1).square()


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("share", [1.0, 0.05])
def test_the_plan_is_that_of_pot_with_any_weights(stored, share, generator):
    x_0, x_1 = clouds(30, 20, 3, generator)
    a, b = weights(30, generator), weights(20, generator)
    costs = PairCosts(x_0, x_1, a, b)
    plan = Sinkhorn(EXACT, 20_000, stored=stored)(costs, share * costs.std)
    cost = squared(x_0, x_1)
    theirs = ot.bregman.sinkhorn_log(
        a.numpy(), b.numpy(), cost.numpy(), 2 * plan.epsilon, 20_000, stopThr=1e-13
    )
    assert plan.converged
    assert plan.error < EXACT
    assert np.allclose(plan_of(plan).numpy(), theirs, atol=1e-11, rtol=0)
    assert plan.cost == pytest.approx(float((cost.numpy() * theirs).sum()), rel=1e-9)
    h = [-(p * np.log(p)).sum() for p in (theirs, a.numpy(), b.numpy())]
    assert plan.entropy == pytest.approx(2 * h[0] / (h[1] + h[2]) - 1, abs=1e-9)
    kl = (theirs * np.log(theirs / np.outer(a, b))).sum()
    assert plan.dual == pytest.approx(plan.cost + 2 * plan.epsilon * kl, rel=1e-9)
    assert plan.bound <= ot.emd2(a.numpy(), b.numpy(), cost.numpy()) * (1 + 1e-12)


def test_the_spread_of_the_cost_is_told_by_the_covariances(generator):
    x_0, x_1 = clouds(40, 30, 4, generator)
    a = weights(40, generator)
    s_x, s_y = (
        np.cov(x.mT.numpy(), aweights=w, ddof=0) for x, w in ((x_0, a.numpy()), (x_1, None))
    )
    costs = PairCosts(x_0, x_1, a)
    assert costs.std == pytest.approx(np.sqrt(np.trace(s_x @ s_y)), rel=1e-10)
    whole = costs.matrix + costs.row[:, None] + costs.column
    assert torch.allclose(2 * whole, squared(x_0, x_1))
    assert costs.offset == pytest.approx(
        2 * float(a @ costs.row + costs.b @ costs.column), rel=1e-12
    )


@pytest.mark.parametrize("most", [1, 7, 100, 599])
def test_blocks_of_any_size_give_the_same_plan(most, generator):
    x_0, x_1 = clouds(30, 20, 3, generator)
    whole = PairCosts(x_0, x_1)
    parts = PairCosts(x_0, x_1, max_elements=most)
    assert whole.held
    assert not parts.held
    assert parts.std == pytest.approx(whole.std, rel=1e-12)
    one, other = (Sinkhorn(1e-9)(costs, 0.1 * whole.std) for costs in (whole, parts))
    assert torch.allclose(plan_of(one), plan_of(other), atol=1e-10, rtol=0)
    for name in ("cost", "dual", "bound", "entropy"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-7), name
    assert torch.allclose(one.column_marginal, other.column_marginal, atol=1e-9)


@pytest.mark.parametrize(("epsilon", "expected"), [(0.1, 0.67545), (0.5, 0.58607), (2, 0.36023)])
def test_covariance_of_the_plan_between_gaussians(epsilon, expected):
    """On a grid of 200 points out to 6 deviations; stds 1 and 0.7, cost |x - y|^2."""
    grid = torch.linspace(-6, 6, 200, dtype=torch.float64)[:, None]
    density = torch.exp(-(grid[:, 0].square()) / 2)
    w = density / density.sum()
    plan = Sinkhorn(1e-9, 20_000)(PairCosts(grid, 0.7 * grid + 1, w, w), epsilon / 2)
    covariance = grid[:, 0] @ plan_of(plan) @ (0.7 * grid[:, 0])
    assert float(covariance) == pytest.approx(expected, abs=1e-5)


def test_a_small_epsilon_gives_the_assignment_and_a_large_one_independent_pairs(generator):
    x_0, x_1 = clouds(25, 25, 2, generator)
    costs = PairCosts(x_0, x_1)
    index = optimal_permutation(x_0, x_1)
    best = float(squared(x_0[index], x_1).diagonal().mean())
    near = Sinkhorn(1e-3, 50_000)(costs, 1e-3 * costs.std)
    assert near.converged
    assert near.cost == pytest.approx(best, rel=1e-3)
    assert near.bound <= best * (1 + 1e-12)
    assert near.bound == pytest.approx(best, rel=1e-3)
    assert near.entropy < 0.05
    far = Sinkhorn(1e-9)(costs, 1e6 * costs.std)
    assert torch.allclose(plan_of(far), torch.full((25, 25), 1 / 625).double(), rtol=1e-4)
    assert far.entropy == pytest.approx(1, abs=1e-6)


def test_widened_costs_are_those_of_single_precision(generator):
    """Only the sums over them are double; made anew in double they differ by rounding."""
    x_0, x_1 = (torch.randn(12, 500, generator=generator) + shift for shift in (0, 3))
    single = PairCosts(x_0, x_1)
    wide = single.widened()
    assert wide.matrix.dtype == wide.a.dtype == wide.row.dtype == torch.float64
    assert torch.equal(wide.matrix, single.matrix.double())
    assert wide.std == pytest.approx(single.std, rel=1e-6)
    fine = wide.double()
    assert not torch.equal(fine.matrix, wide.matrix)
    torch.testing.assert_close(fine.matrix, wide.matrix, rtol=1e-4, atol=1e-4)
    assert torch.equal(fine.matrix, PairCosts(x_0, x_1).double().matrix)
    with pytest.raises(InputError, match="costs that are held"):
        PairCosts(x_0, x_1, max_elements=100).widened()


def test_single_precision_agrees_with_double(generator):
    """Where single precision is chosen (epsilon >= 0.01 std) it is good to well below 1e-3."""
    x_0, x_1 = clouds(200, 150, 10, generator)
    for share in (0.3, 0.02):
        single = PairCosts(x_0.float(), x_1.float())
        rough = Sinkhorn(1e-4)(single, share * single.std)
        exact = Sinkhorn(1e-9, 50_000)(PairCosts(x_0, x_1), share * single.std)
        assert rough.f.dtype == torch.float32
        assert rough.converged
        assert float((plan_of(rough) - plan_of(exact)).abs().sum()) < 1e-2
        assert rough.cost == pytest.approx(exact.cost, rel=1e-4)
    fine = Sinkhorn(1e-3)(single, 0.005 * single.std)
    assert fine.f.dtype == torch.float64


@pytest.mark.parametrize("far", [30.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_that_overflow_are_left_for_the_log_domain(far, dtype, generator):
    """Rows so far out that no stored kernel around zero potentials can hold them."""
    x_0, x_1 = (x.to(dtype) for x in clouds(200, 200, 2, generator))
    x_0[:3] *= far
    costs = PairCosts(x_0, x_1)
    epsilon = 0.02 * PairCosts(x_0[3:], x_1).std
    both = [Sinkhorn(1e-3, 20_000, stored=stored)(costs, epsilon) for stored in (True, False)]
    assert all(plan.converged for plan in both)
    assert both[0].cost == pytest.approx(both[1].cost, rel=1e-3)
    rows = both[0].row_marginal
    assert float((rows - 1 / 200).abs().sum()) < 3e-3


def test_columns_or_rows_that_are_left_are_as_wrong_as_told(generator):
    x_0, x_1 = clouds(40, 40, 2, generator)
    costs = PairCosts(x_0, x_1)
    plain = Sinkhorn(1e-3, relaxation=1.0)(costs, 0.05 * costs.std)
    assert torch.allclose(plain.column_marginal, costs.b)
    assert float((plain.row_marginal - costs.a).abs().sum()) == pytest.approx(plain.error, rel=1e-9)
    longer = Sinkhorn(1e-3)(costs, 0.05 * costs.std)
    wrong = (longer.row_marginal - costs.a).abs().sum() + (
        longer.column_marginal - costs.b
    ).abs().sum()
    assert float(wrong) == pytest.approx(longer.error, rel=1e-9)


def test_what_has_not_converged_says_so(generator):
    x_0, x_1 = clouds(40, 40, 2, generator)
    costs = PairCosts(x_0, x_1)
    plan = Sinkhorn(1e-9, 15)(costs, 0.01 * costs.std)
    assert isinstance(plan, Plan)
    assert not plan.converged
    assert plan.error > 1e-9
    assert plan.iterations == 15


def test_a_start_near_the_solution_saves_sweeps(generator):
    x_0, x_1 = clouds(80, 80, 2, generator)
    costs = PairCosts(x_0, x_1)
    solve = Sinkhorn(1e-6, 20_000)
    cold = solve(costs, 0.05 * costs.std)
    warm = solve(costs, 0.05 * costs.std, start=cold.f)
    assert warm.iterations < cold.iterations / 3
    assert torch.allclose(plan_of(warm), plan_of(cold), atol=1e-7, rtol=0)


@pytest.mark.parametrize("n", [1, 5])
def test_points_without_spread_have_the_independent_plan(n):
    costs = PairCosts(torch.ones(n, 2), torch.zeros(n, 2))
    plan = Sinkhorn()(costs, 1.0)
    assert plan.converged
    assert torch.allclose(plan_of(plan), torch.full((n, n), 1 / n**2).double())
    assert plan.cost == pytest.approx(2.0)
    assert plan.entropy == pytest.approx(1.0 if n > 1 else 0.0)


def test_drawn_partners_follow_the_rows_of_the_plan(generator):
    x_0, x_1 = clouds(6, 5, 2, generator)
    costs = PairCosts(x_0, x_1, max_elements=11)
    plan = Sinkhorn(1e-9)(costs, 0.5 * costs.std)
    rows = torch.arange(6).repeat_interleave(20_000)
    drawn = plan.draw(generator, rows=rows)
    counts = torch.zeros(6, 5, dtype=torch.float64)
    counts.index_put_((rows, drawn.index), torch.ones(1, dtype=torch.float64), accumulate=True)
    law = plan_of(plan)
    law = law / law.sum(dim=1, keepdim=True)
    # Binomial deviation below 0.0036.
    assert float((counts / 20_000 - law).abs().max()) < 0.015
    assert drawn.cost == pytest.approx(float((law * squared(x_0, x_1)).sum() / 6), rel=1e-9)
    assert drawn.entropy == pytest.approx(plan.entropy, abs=1e-6)


def test_columns_are_drawn_as_often_as_the_plan_says(generator):
    """Chi-square of the counts over many draws; row sums are exact by construction."""
    x_0, x_1 = clouds(40, 40, 2, generator)
    costs = PairCosts(x_0, x_1)
    plan = Sinkhorn(1e-6)(costs, 0.3 * costs.std)
    counts = torch.zeros(40)
    for _ in range(500):
        counts += plan.draw(generator).index.bincount(minlength=40)
    chi2 = float(((counts - 500).square() / 500).sum())
    assert chi2 < 39 + 5 * np.sqrt(2 * 39)


def test_bad_numbers_are_refused(generator):
    x_0, x_1 = clouds(4, 4, 2, generator)
    bad: list[dict[str, Any]] = [{"tolerance": 0.0}, {"max_sweeps": 0}, {"relaxation": 2.0}]
    for settings in bad:
        with pytest.raises(InputError, match=next(iter(settings))):
            Sinkhorn(**settings)
    with pytest.raises(InputError, match="epsilon must be > 0"):
        Sinkhorn()(PairCosts(x_0, x_1), 0.0)
    with pytest.raises(InputError, match="one shape"):
        PairCosts(x_0, x_1[:, :1])
    with pytest.raises(InputError, match="max_elements"):
        PairCosts(x_0, x_1, max_elements=0)
    for bad in (float("nan"), float("inf"), 1e200):
        x_1[2, 1] = bad
        with pytest.raises(InputError, match="finite"):
            PairCosts(x_0, x_1)


@pytest.mark.parametrize("length", [1.0, 1.5])
@pytest.mark.parametrize("size", [0.5, 40.0])
def test_a_sweep_in_one_pass_is_a_step_of_rows_and_one_of_columns(length, size, generator):
    """With scalings far out too, where the exponentials of one pass would leave the range."""
    x_0, x_1 = clouds(30, 20, 3, generator)
    costs = PairCosts(x_0, x_1, weights(30, generator), weights(20, generator), max_elements=70)
    f, g = (0.1 * torch.randn(n, generator=generator, dtype=torch.float64) for n in (30, 20))
    u, v = (size * torch.randn(n, generator=generator, dtype=torch.float64) for n in (30, 20))
    around = LogScaling(costs, 0.3 * costs.std, f, g)
    new_u = u + length * (-around.rows(v) - u)
    new_v = v + length * (-around.columns(new_u) - v)
    found_u, found_v = around.sweep(u, v, length)
    assert torch.allclose(found_u, new_u, atol=1e-10, rtol=1e-10)
    assert torch.allclose(found_v, new_v, atol=1e-10, rtol=1e-10)
