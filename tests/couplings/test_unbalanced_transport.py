"""Unbalanced plans against POT and their own conditions of optimality; pairs drawn from them."""

import logging
import math

import numpy as np
import ot
import pytest
import torch

from flowgen.core import Coupling, InputError, Pair
from flowgen.couplings import AbsoluteEpsilon, PairCosts, Sinkhorn, UnbalancedTransport
from flowgen.couplings.unbalanced_plan import unbalanced_plan

EXACT = {"tolerance": 1e-13, "max_sweeps": 20_000}
INF = math.inf


def clouds(n, shape, generator, dtype=torch.float64):
    """Two clouds that share neither mean nor scale."""
    x_0 = torch.randn(n, *shape, generator=generator, dtype=dtype)
    return Pair(x_0, 1.8 * torch.randn(n, *shape, generator=generator, dtype=dtype) + 0.6)


def solved(pair, epsilon, rho, **settings):
    costs = PairCosts(pair.x_0, pair.x_1)
    rho = (rho[0] * costs.std, rho[1] * costs.std)
    return unbalanced_plan(costs, epsilon * costs.std, rho, **(settings or EXACT))


def weights_of(plan):
    return torch.cat([logs.exp() for _, logs in plan.log_rows()])


def objective(p, cost, epsilon, rho):
    """For the cost ``|x - y|^2 / 2`` and equal weights."""

    def kl(p, q):
        return float((p * (p / q).log() - p + q).sum())

    n = len(p)
    sides = (kl(p.sum(dim=k), torch.full((n,), 1 / n)) for k in (1, 0))
    prices = sum(r * value for r, value in zip(rho, sides, strict=True))
    return float((p * cost).sum()) + epsilon * kl(p, torch.full((n, n), n**-2)) + prices


@pytest.mark.parametrize("rho", [(1.0, 1.0), (0.1, 3.0), (INF, 1.0), (0.3, INF)])
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_the_plan_is_that_of_pot(epsilon, rho, generator):
    n = 30
    pair = clouds(n, (2,), generator)
    plan = solved(pair, epsilon, rho)
    assert plan.converged
    std = PairCosts(pair.x_0, pair.x_1).std
    uniform = np.full(n, 1 / n)
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        *(uniform, uniform, torch.cdist(pair.x_0, pair.x_1).square().numpy()),
        2 * epsilon * std,
        (2 * rho[0] * std, 2 * rho[1] * std),
        reg_type="kl",
        numItermax=100_000,
        stopThr=1e-16,
    )
    assert np.allclose(weights_of(plan).numpy(), np.asarray(theirs), atol=1e-13, rtol=1e-9)


def test_no_plan_nearby_is_better(generator):
    pair = clouds(8, (2,), generator)
    plan = solved(pair, 0.3, (0.5, 2.0))
    costs = plan.costs
    cost = torch.cdist(pair.x_0, pair.x_1).square() / 2
    rho = (0.5 * costs.std, 2.0 * costs.std)
    p = weights_of(plan)
    best = objective(p, cost, plan.epsilon, rho)
    for _ in range(50):
        noise = torch.randn(8, 8, generator=generator, dtype=torch.float64)
        for size in (0.1, -0.1, 1e-3):
            assert objective(p * (size * noise).exp(), cost, plan.epsilon, rho) > best
    for scale in (0.9, 1.1):
        assert objective(scale * p, cost, plan.epsilon, rho) > best


@pytest.mark.parametrize("epsilon", [1.0, 0.1])
def test_a_high_price_gives_the_balanced_plan_and_a_low_one_less_mass(epsilon, generator):
    """The closed form of the constant is what makes high prices converge."""
    pair = clouds(30, (3,), generator)
    high = solved(pair, epsilon, (1e6, 1e6), tolerance=1e-9, max_sweeps=5000)
    assert high.converged
    costs = PairCosts(pair.x_0, pair.x_1)
    balanced = Sinkhorn(1e-9, 20_000)(costs, epsilon * costs.std)
    assert torch.allclose(weights_of(high), weights_of(balanced), atol=1e-7, rtol=1e-4)
    assert float(weights_of(high).sum()) == pytest.approx(1, abs=1e-5)
    assert float(weights_of(solved(pair, epsilon, (1.0, 1.0))).sum()) < 0.95


@pytest.mark.parametrize("rho", [(INF, 0.5), (0.5, INF)])
def test_a_side_without_a_price_keeps_its_marginal(rho, generator):
    plan = solved(clouds(25, (2,), generator), 0.1, rho)
    sides = (plan.row_marginal, plan.column_marginal)
    kept, free = sides if rho[0] == INF else sides[::-1]
    assert torch.allclose(kept, torch.full((25,), 1 / 25).double(), rtol=1e-9)
    assert float((free - 1 / 25).abs().sum()) > 0.05


def test_blocks_sums_in_the_log_domain_and_far_points_change_nothing(generator):
    pair = clouds(30, (2,), generator)
    pair.x_1[:3] += 1000
    rho, settings = (0.05, 0.02), {"tolerance": 1e-12, "max_sweeps": 5000}
    plans = []
    for most in (2**20, 70):
        costs = PairCosts(pair.x_0, pair.x_1, max_elements=most)
        prices = (rho[0] * costs.std, rho[1] * costs.std)
        plans.append(unbalanced_plan(costs, 1e-3 * costs.std, prices, **settings))
    assert all(plan.converged for plan in plans)
    assert torch.allclose(*(weights_of(plan) for plan in plans), atol=1e-12, rtol=1e-6)


def test_an_outlier_comes_less_often_and_noise_stays_in_place(generator):
    pair = clouds(20, (2,), generator, torch.float32)
    pair.x_1[4] += 12
    coupling = UnbalancedTransport(None, 0.1)
    assert isinstance(coupling, Coupling)
    counts = torch.zeros(20)
    for _ in range(150):
        after = coupling(pair, generator=generator)
        assert torch.equal(after.x_0, pair.x_0)
        counts += (after.x_1[:, None] == pair.x_1).all(-1).sum(dim=0)
    assert float(counts[4]) == counts.min() < 0.2 * 150
    stats = UnbalancedTransport(None, 0.1)(pair, generator=generator).stats
    assert float(stats["coupling/mass"]) == pytest.approx(1)
    assert float(stats["coupling/ess_source"]) == pytest.approx(1)
    assert float(stats["coupling/ess_data"]) < 0.99


def test_pairs_are_drawn_as_often_as_the_plan_says(generator):
    pair = clouds(12, (2,), generator)
    coupling = UnbalancedTransport(0.5, 0.2, 0.3)
    draws = 300
    counts = torch.zeros(12, 12, dtype=torch.float64)
    for _ in range(draws):
        after = coupling(pair, generator=generator)
        i, j = (
            (few[:, None] == all_of).all(-1).int().argmax(dim=1)
            for few, all_of in ((after.x_0, pair.x_0), (after.x_1, pair.x_1))
        )
        counts.index_put_((i, j), torch.ones(12, dtype=torch.float64), accumulate=True)
    law = weights_of(coupling.plan(pair))
    expected = draws * 12 * law / law.sum()
    some = expected > 5
    chi2 = float(((counts - expected)[some].square() / expected[some]).sum())
    assert chi2 < int(some.sum()) + 5 * (2 * int(some.sum())) ** 0.5
    # Systematic: the rows come with less scatter than by lot, 1 for each batch at most.
    rows = law.sum(dim=1) / law.sum()
    assert float((counts.sum(dim=1) - draws * 12 * rows).abs().max()) < 3 * draws**0.5


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2)])
@pytest.mark.parametrize("n", [1, 20])
def test_its_figures_are_those_of_the_plan_and_of_the_pairs(n, shape, generator):
    pair = clouds(n, shape, generator, torch.float32)
    coupling = UnbalancedTransport(1.0, 0.5, AbsoluteEpsilon(2.0))
    after = coupling(pair, generator=generator)
    stats = {name: float(value) for name, value in after.stats.items()}
    law = weights_of(coupling.plan(pair))
    assert stats["coupling/mass"] == pytest.approx(float(law.sum()))
    for name, k in (("source", 1), ("data", 0)):
        p = law.sum(dim=k)
        share = float(p.sum() ** 2 / (n * p.square().sum()))
        assert stats[f"coupling/ess_{name}"] == pytest.approx(share)
    assert stats["coupling/epsilon"] == pytest.approx(2.0)
    assert stats["coupling/converged"] == 1
    assert stats["coupling/cost"] == pytest.approx(
        float((after.x_1 - after.x_0).square().mean()), rel=1e-5
    )


def test_order_scale_and_precision_do_not_change_the_plan(generator):
    pair = clouds(20, (2,), generator)
    plan = weights_of(solved(pair, 0.1, (1.0, 0.5)))
    both = Pair(40 * pair.x_0 + 7, 40 * pair.x_1 + 7)
    # The unit of all prices is the cost, which grows by 40^2.
    assert torch.allclose(weights_of(solved(both, 0.1, (1.0, 0.5))), plan, rtol=1e-9)
    p, q = (torch.randperm(20, generator=generator) for _ in range(2))
    turned = solved(Pair(pair.x_0[p], pair.x_1[q]), 0.1, (1.0, 0.5))
    assert torch.allclose(weights_of(turned), plan[p][:, q], rtol=1e-9)
    single = solved(Pair(pair.x_0.float(), pair.x_1.float()), 0.1, (1.0, 0.5))
    assert torch.allclose(weights_of(single), plan, rtol=1e-4)
    first, again, other = (
        UnbalancedTransport(1.0, 0.5)(pair, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.x_0, again.x_0)
    assert torch.equal(first.x_1, again.x_1)
    assert not torch.equal(first.x_1, other.x_1)


def test_what_does_not_converge_warns_once_and_equal_points_do_not(generator, caplog):
    coupling = UnbalancedTransport(None, 5.0, 1e-3, tolerance=1e-9, max_sweeps=4)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            after = coupling(clouds(20, (2,), generator), generator=generator)
            assert float(after.stats["coupling/converged"]) == 0
            assert float(after.stats["coupling/iterations"]) == 4
        same = Pair(torch.ones(5, 2), torch.ones(5, 2))
        stats = UnbalancedTransport(1.0, 1.0)(same, generator=generator).stats
    assert sum("unbalanced plan still changes" in r.message for r in caplog.records) == 1
    assert float(stats["coupling/cost"]) == 0
    assert float(stats["coupling/mass"]) == pytest.approx(1)


def test_what_it_says_of_itself_and_refuses(generator):
    coupling = UnbalancedTransport(None, 1.0)
    facts = (coupling.score_valid, coupling.exact_marginals, coupling.condition_safe)
    assert facts == (False, False, False)
    pair = clouds(8, (2,), generator)
    with pytest.raises(InputError, match="class_assignment"):
        coupling(Pair(pair.x_0, pair.x_1, {"label": torch.zeros(8, dtype=torch.int64)}))
    with pytest.raises(InputError, match="weigh the pairs after"):
        coupling(Pair(pair.x_0, pair.x_1, weight=torch.ones(8)))
    with pytest.raises(InputError, match="coupling=entropic"):
        UnbalancedTransport(None, None)
    for bad in (0.0, -1.0, INF, float("nan")):
        with pytest.raises(InputError, match="rho_source must be > 0"):
            UnbalancedTransport(bad, 1.0)
        with pytest.raises(InputError, match="rho_data must be > 0"):
            UnbalancedTransport(None, bad)
        with pytest.raises(InputError, match="epsilon must be > 0"):
            UnbalancedTransport(None, 1.0, bad)
        with pytest.raises(InputError, match="tolerance must be > 0"):
            UnbalancedTransport(None, 1.0, tolerance=bad)
    for name in ("max_sweeps", "max_elements"):
        with pytest.raises(InputError, match=f"{name} must be >= 1"):
            UnbalancedTransport(None, 1.0, **{name: 0})
    costs = PairCosts(pair.x_0, pair.x_1)
    for epsilon, rho, message in [
        (0.0, (1.0, 1.0), "epsilon must be"),
        (1.0, (INF, INF), "not both inf"),
        (1.0, (0.0, 1.0), "two numbers > 0"),
    ]:
        with pytest.raises(InputError, match=message):
            unbalanced_plan(costs, epsilon, rho, **EXACT)
    pair.x_1[5, 1] = float("nan")
    with pytest.raises(InputError, match="must be finite"):
        coupling(pair)
