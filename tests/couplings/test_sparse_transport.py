"""Sparse plans against enumeration, POT and exact transport; rounding; pairs drawn from them."""

import itertools
import logging

import numpy as np
import ot
import pytest
import torch

from flowgen.core import Coupling, InputError, Pair
from flowgen.couplings import ExactAssignment, PairCosts, SparseTransport, optimal_permutation
from flowgen.couplings.sparse_plan import rounded, semi_dual, sparse_plan, sparse_simplex

EXACT = {"tolerance": 1e-10, "max_iterations": 5000}


def clouds(n, shape, generator, dtype=torch.float64):
    """Two clouds that share neither mean nor scale."""
    x_0 = torch.randn(n, *shape, generator=generator, dtype=dtype)
    return Pair(x_0, 1.8 * torch.randn(n, *shape, generator=generator, dtype=dtype) + 0.6)


def squared(pair):
    """Rows are noise, columns data; with the spread of all its entries as the unit."""
    cost = torch.cdist(pair.x_0.flatten(1).double(), pair.x_1.flatten(1).double()).square()
    return cost / cost.std(correction=0).clamp(min=1e-9)


def primal(plan, cost, gamma):
    n = len(cost)
    return float((plan * cost).sum() + gamma * n / 2 * plan.square().sum())


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 1), (4, 3), (6, 2), (6, 6)])
def test_the_largest_scores_projected_are_the_best_law_on_any_support(n, k, generator):
    scores = 2 * torch.randn(5, n, generator=generator, dtype=torch.float64)
    law, where = sparse_simplex(scores, k)
    assert torch.allclose(law.sum(dim=1), torch.ones(5, dtype=torch.float64))
    assert bool((law >= 0).all())
    ours = (law * scores.gather(1, where)).sum(dim=1) - law.square().sum(dim=1) / 2
    for row, value in zip(scores, ours.tolist(), strict=True):
        best = -np.inf
        # On a set of positive entries the best law is a shift of the scores.
        for size in range(1, k + 1):
            for support in itertools.combinations(range(n), size):
                part = row[list(support)]
                p = part - (part.sum() - 1) / size
                if bool((p >= 0).all()):
                    best = max(best, float(p @ part - p @ p / 2))
        assert value == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_gradient_is_that_of_finite_differences(k, generator):
    columns = torch.randn(10, 10, generator=generator, dtype=torch.float64)
    alpha = torch.randn(10, generator=generator, dtype=torch.float64)
    _, gradient = semi_dual(alpha, columns, 0.7, k)
    h = 1e-6
    for i in range(10):
        step = torch.zeros(10, dtype=torch.float64)
        step[i] = h
        up, down = (float(semi_dual(alpha + s, columns, 0.7, k)[0]) for s in (step, -step))
        # Rounding of the values over the step.
        assert (up - down) / (2 * h) == pytest.approx(float(gradient[i]), abs=1e-8)


@pytest.mark.parametrize("n", [1, 6, 40])
def test_one_entry_a_column_is_exact_transport(n, generator):
    pair = clouds(n, (3,), generator)
    found = sparse_plan(squared(pair), 0.1, 1, **EXACT)
    assert found.error < 1e-9
    index = optimal_permutation(pair.x_0, pair.x_1)
    assert torch.equal(found.weights.argmax(dim=0), index)
    assert torch.allclose(found.weights[index].diagonal(), torch.full((n,), 1 / n).double())


@pytest.mark.parametrize("gamma", [0.05, 1.0])
def test_as_many_entries_as_there_are_is_the_quadratic_plan_of_pot(gamma, generator):
    n = 25
    cost = squared(clouds(n, (2,), generator))
    found = sparse_plan(cost, gamma, n, **EXACT)
    uniform = np.full(n, 1 / n)
    theirs = ot.smooth.smooth_ot_dual(
        uniform, uniform, cost.numpy(), gamma * n, reg_type="l2", stopThr=1e-14, numItermax=20_000
    )
    assert found.error < 1e-6
    assert np.allclose(found.weights.numpy(), np.asarray(theirs), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("gamma", "k", "kink"), [(0.1, 3, False), (0.3, 2, True)])
def test_few_entries_agree_with_pot(gamma, k, kink, generator, capsys):
    n = 12
    cost = squared(clouds(n, (2,), generator))
    found = sparse_plan(cost, gamma, k, **EXACT)
    uniform = np.full(n, 1 / n)
    theirs, told = ot.smooth.smooth_ot_semi_dual(
        *(uniform, uniform, cost.numpy(), gamma * n),
        reg_type="sparsity_constrained",
        max_nz=k,
        stopThr=1e-14,
        numItermax=20_000,
        log=True,
    )
    capsys.readouterr()  # it prints shapes
    assert int((found.weights > 0).sum(dim=0).max()) == k
    columns = cost.mT.contiguous()
    ours, other = (
        float(semi_dual(alpha, columns, gamma, k)[0])
        for alpha in (found.alpha, torch.from_numpy(told["alpha"]))
    )
    # At a kink L-BFGS ends near the maximum, and there any of many plans is as good.
    assert ours == pytest.approx(other, abs=2e-4 if kink else 1e-10)
    assert (found.error > 1e-2) == kink
    if not kink:
        assert np.allclose(found.weights.numpy(), np.asarray(theirs), atol=1e-6, rtol=0)


@pytest.mark.parametrize("k", [1, 2, 4, 9, 30])
def test_no_column_has_more_entries_and_where_rows_are_met_there_is_no_gap(k, generator):
    cost = squared(clouds(30, (2,), generator))
    found = sparse_plan(cost, 0.2, k, tolerance=1e-10, max_iterations=1000)
    assert int((found.weights > 0).sum(dim=0).max()) <= k
    assert torch.allclose(found.weights.sum(dim=0), torch.full((30,), 1 / 30).double())
    value, gradient = semi_dual(found.alpha, cost.mT.contiguous(), 0.2, k)
    assert float(gradient.abs().sum()) == pytest.approx(found.error, abs=1e-12)
    # Weak duality up to what the rows miss, and equality where they do not.
    slack = float(found.alpha.abs().max()) * found.error + 1e-9
    assert float(value) == pytest.approx(primal(found.weights, cost, 0.2), abs=slack)
    assert found.error < 1e-6 or 1 < k < 9


def test_rounding_meets_both_marginals_and_moves_little(generator):
    plan = torch.rand(7, 5, generator=generator, dtype=torch.float64)
    plan[2] = 0
    plan[:, 3] = 0
    plan /= plan.sum()
    a, b = (torch.rand(n, generator=generator, dtype=torch.float64) + 0.1 for n in (7, 5))
    a, b = a / a.sum(), b / b.sum()
    near = rounded(plan, a, b)
    assert torch.allclose(near.sum(dim=1), a, atol=1e-15)
    assert torch.allclose(near.sum(dim=0), b, atol=1e-15)
    assert bool((near >= 0).all())
    error = (plan.sum(dim=1) - a).abs().sum() + (plan.sum(dim=0) - b).abs().sum()
    assert float((near - plan).abs().sum()) <= 2 * float(error)
    assert torch.allclose(rounded(near, a, b), near, atol=1e-15)
    # Columns that are met already, rows that are not, by hand.
    half = torch.tensor([[0.5, 0.5], [0.0, 0.0]]).double()
    assert torch.allclose(
        rounded(half, half.sum(0), half.sum(0)), torch.full((2, 2), 0.25).double()
    )


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
@pytest.mark.parametrize("n", [1, 30])
def test_noise_stays_in_place_and_every_partner_is_a_row_of_the_data(n, shape, generator):
    pair = clouds(n, shape, generator, torch.float32)
    coupling = SparseTransport(0.1, 4)
    assert isinstance(coupling, Coupling)
    after = coupling(pair, generator=generator)
    assert torch.equal(after.x_0, pair.x_0)
    assert bool((after.x_1[:, None] == pair.x_1).flatten(2).all(-1).any(dim=1).all())
    stats = {name: float(value) for name, value in after.stats.items()}
    assert stats["coupling/cost"] == pytest.approx(
        float((after.x_1 - after.x_0).square().mean()), rel=1e-5
    )
    assert stats["coupling/nonzeros"] <= 4
    assert stats["coupling/iterations"] >= 0
    assert stats["coupling/marginal_error"] < 0.05


def test_partners_are_drawn_as_often_as_the_rounded_plan_says(generator):
    """At a kink, where the rows are missed before rounding: both sides come equally often."""
    pair = clouds(12, (2,), generator)
    coupling = SparseTransport(1.0, 2, max_iterations=15)
    draws = 150
    counts = torch.zeros(12, 12, dtype=torch.float64)
    errors = []
    for _ in range(draws):
        after = coupling(pair, generator=generator)
        j = (after.x_1[:, None] == pair.x_1).all(-1).int().argmax(dim=1)
        counts[torch.arange(12), j] += 1
        errors.append(float(after.stats["coupling/marginal_error"]))
    assert min(errors) > 0.01
    costs = PairCosts(pair.x_0, pair.x_1)
    found = sparse_plan(costs.matrix / costs.std, 1.0, 2, tolerance=1e-2, max_iterations=15)
    expected = draws * 12 * rounded(found.weights, costs.a, costs.b)
    some = expected > 5
    chi2 = float(((counts - expected)[some].square() / expected[some]).sum())
    assert chi2 < int(some.sum()) + 5 * (2 * int(some.sum())) ** 0.5
    assert float(((counts.sum(dim=0) - draws).square() / draws).sum()) < 11 + 5 * 22**0.5


def test_optimality_is_that_of_the_plan_and_grows_as_gamma_falls(generator):
    pair = clouds(60, (3,), generator)
    shares = []
    for gamma in (3.0, 0.3, 0.01):
        stats = SparseTransport(gamma, 60, **EXACT)(pair, generator=generator).stats
        shares.append(float(stats["coupling/optimality"]))
    assert 0 < shares[0] < shares[1] < shares[2] <= 1
    # The bound is the dual at this gamma: it is below the optimum, so the share told is too small.
    costs = PairCosts(pair.x_0, pair.x_1)
    found = sparse_plan(costs.matrix / costs.std, 0.3, 60, **EXACT)
    cost = torch.cdist(pair.x_0, pair.x_1).square()
    given = float(cost.diagonal().mean())
    least = 3 * float(ExactAssignment()(pair).stats["coupling/cost"])
    share = (given - float((found.weights * cost).sum())) / (given - least)
    assert share - 0.1 < shares[1] <= share + 1e-6


def test_order_scale_and_shift_do_not_change_the_plan(generator):
    pair = clouds(20, (2,), generator)
    costs = PairCosts(pair.x_0, pair.x_1)
    plan = sparse_plan(costs.matrix / costs.std, 0.1, 20, **EXACT).weights
    far = PairCosts(pair.x_0, 40 * pair.x_1 + 7)
    moved = sparse_plan(far.matrix / far.std, 0.1, 20, **EXACT).weights
    assert torch.allclose(moved, plan, atol=1e-8)
    p, q = (torch.randperm(20, generator=generator) for _ in range(2))
    turned = sparse_plan((costs.matrix / costs.std)[p][:, q], 0.1, 20, **EXACT).weights
    assert torch.allclose(turned, plan[p][:, q], atol=1e-8)


def test_the_seed_decides_and_single_precision_draws_the_same(generator):
    pair = clouds(40, (2,), generator, torch.float32)
    coupling = SparseTransport(0.3, 40, **EXACT)
    wide = Pair(pair.x_0.double(), pair.x_1.double())
    first, again, other, double = (
        coupling(p, generator=torch.Generator().manual_seed(seed)).x_1
        for p, seed in ((pair, 1), (pair, 1), (pair, 2), (wide, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first.double(), double)


def test_a_plan_that_misses_the_rows_warns_once_and_equal_points_do_not(generator, caplog):
    coupling = SparseTransport(1.0, 2)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            coupling(clouds(40, (2,), generator), generator=generator)
        same = Pair(torch.ones(5, 2), torch.ones(5, 2))
        stats = SparseTransport()(same, generator=generator).stats
    assert sum("misses the row sums" in r.message for r in caplog.records) == 1
    assert float(stats["coupling/cost"]) == 0
    assert float(stats["coupling/optimality"]) == 1


def test_what_it_says_of_itself_and_refuses(generator):
    coupling = SparseTransport()
    facts = (coupling.score_valid, coupling.exact_marginals, coupling.condition_safe)
    assert facts == (False, True, False)
    pair = clouds(8, (2,), generator)
    with pytest.raises(InputError, match="class_assignment"):
        coupling(Pair(pair.x_0, pair.x_1, {"label": torch.zeros(8, dtype=torch.int64)}))
    with pytest.raises(InputError, match="weigh the pairs after"):
        coupling(Pair(pair.x_0, pair.x_1, weight=torch.ones(8)))
    with pytest.raises(InputError, match="8 x 8 is above max_elements=63"):
        SparseTransport(max_elements=63)(pair)
    for bad, message in [
        ({"gamma": 0.0}, "gamma must be > 0"),
        ({"tolerance": float("inf")}, "tolerance must be > 0"),
        ({"max_nonzeros": 0}, "max_nonzeros must be >= 1"),
        ({"max_iterations": 0}, "max_iterations must be >= 1"),
        ({"max_elements": 0}, "max_elements must be >= 1"),
    ]:
        with pytest.raises(InputError, match=message):
            SparseTransport(**bad)
    with pytest.raises(InputError, match=r"k must be in \[1, 3\]"):
        sparse_plan(torch.zeros(3, 3), 0.1, 4, **EXACT)
    pair.x_1[5, 1] = float("nan")
    with pytest.raises(InputError, match="must be finite"):
        coupling(pair)
