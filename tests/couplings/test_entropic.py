"""Pairs drawn from the entropic plan: marginals, cost, figures, warm starts and refusals."""

import logging

import pytest
import torch

from flowgen.core import Coupling, InputError, Pair
from flowgen.couplings import (
    AbsoluteEpsilon,
    BridgeEpsilon,
    Entropic,
    ExactAssignment,
    PairCosts,
    RelativeEpsilon,
    Sinkhorn,
)


def batch(n, generator, shape=(3,)):
    x_0 = torch.randn(n, *shape, generator=generator)
    return Pair(x_0, 2 * torch.randn(n, *shape, generator=generator) + 1)


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
def test_noise_stays_in_place_and_every_partner_is_a_row_of_the_data(shape, generator):
    pair = batch(40, generator, shape)
    coupling = Entropic(0.05)
    assert isinstance(coupling, Coupling)
    after = coupling(pair, generator=generator)
    assert torch.equal(after.x_0, pair.x_0)
    rows = {tuple(row.tolist()) for row in pair.x_1.flatten(1)}
    assert all(tuple(row.tolist()) in rows for row in after.x_1.flatten(1))
    assert after.cond is None
    assert after.weight is None
    assert not coupling.score_valid
    assert not coupling.condition_safe


def test_data_rows_come_equally_often_in_the_mean(generator):
    pair = batch(30, generator)
    coupling = Entropic(0.2, solver=Sinkhorn(1e-6))
    counts = torch.zeros(30)
    for _ in range(400):
        drawn = coupling(pair, generator=generator).x_1
        counts += (drawn[:, None] == pair.x_1).all(-1).sum(dim=0)
    chi2 = float(((counts - 400).square() / 400).sum())
    assert chi2 < 29 + 5 * (2 * 29) ** 0.5


def test_its_figures_are_those_of_the_plan_and_of_the_pairs(generator):
    pair = batch(60, generator)
    after = Entropic(0.1, solver=Sinkhorn(1e-6))(pair, generator=generator)
    stats = {name: float(value) for name, value in after.stats.items()}
    best = ExactAssignment()(pair)
    given, least = (float((p.x_1 - p.x_0).square().mean()) for p in (pair, best))
    assert stats["coupling/cost"] == pytest.approx(float((after.x_1 - after.x_0).square().mean()))
    assert stats["coupling/converged"] == 1
    assert stats["coupling/marginal_error"] < 1e-6
    costs = PairCosts(pair.x_0, pair.x_1)
    assert stats["coupling/epsilon"] == pytest.approx(0.2 * costs.std, rel=1e-5)
    plan = Sinkhorn(1e-6)(costs, 0.1 * costs.std)
    assert stats["coupling/entropy"] == pytest.approx(plan.entropy, abs=1e-5)
    # The bound is the dual at this epsilon, so what is told is below the share of the optimum.
    share = (given - plan.cost / 3) / (given - least)
    assert 0 < stats["coupling/optimality"] <= share + 1e-5
    near = Entropic(1e-3, solver=Sinkhorn(1e-3, 100_000))(pair, generator=generator)
    assert float(near.stats["coupling/optimality"]) > 0.98
    assert float(near.stats["coupling/entropy"]) < 0.1


def test_the_three_units_of_epsilon():
    assert RelativeEpsilon(0.1)(30.0) == pytest.approx(3.0)
    assert RelativeEpsilon(0.1)(0.0) == 1.0
    assert AbsoluteEpsilon(0.5)(30.0) == 0.25
    assert BridgeEpsilon(0.7)(30.0) == pytest.approx(0.49)
    assert AbsoluteEpsilon(2 * 0.7**2)(1.0) == pytest.approx(BridgeEpsilon(0.7)(1.0))
    for bad in (0.0, -1.0, float("inf"), float("nan")):
        for kind in (RelativeEpsilon, AbsoluteEpsilon, BridgeEpsilon):
            with pytest.raises(InputError, match="must be > 0 and finite"):
                kind(bad)


def test_the_same_seed_gives_the_same_pairs_and_another_others(generator):
    pair = batch(50, generator)
    coupling = Entropic(0.2)
    first, again, other = (
        coupling(pair, generator=torch.Generator().manual_seed(seed)).x_1 for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_pairs_do_not_depend_on_scale_and_place_of_the_data(scale, generator):
    pair = batch(50, generator)
    moved = Pair(pair.x_0, scale * pair.x_1 + 5)
    one, other = (
        Entropic(0.1, solver=Sinkhorn(1e-6))(p, generator=torch.Generator().manual_seed(3))
        for p in (pair, moved)
    )
    assert torch.allclose(scale * one.x_1 + 5, other.x_1, rtol=1e-5)


def test_blocks_give_the_pairs_that_all_costs_at_once_give(generator):
    pair = batch(50, generator)
    one, other = (
        Entropic(0.1, solver=Sinkhorn(1e-7), max_elements=most)(
            pair, generator=torch.Generator().manual_seed(3)
        )
        for most in (2**20, 130)
    )
    assert torch.equal(one.x_1, other.x_1)


def test_a_warm_start_saves_sweeps_and_goes_on_from_its_state():
    def batches():
        generator = torch.Generator().manual_seed(5)
        return [batch(200, generator) for _ in range(4)]

    def run(coupling, pairs, number=0):
        out = []
        for i, pair in enumerate(pairs, start=number):
            out.append(coupling(pair, generator=torch.Generator().manual_seed(i)))
        return out

    def warm():
        return Entropic(0.03, solver=Sinkhorn(1e-3), warm_start=True)

    def sweeps(pairs):
        return sum(float(p.stats["coupling/iterations"]) for p in pairs[1:])

    whole = run(warm(), batches())
    assert sweeps(whole) < sweeps(run(Entropic(0.03, solver=Sinkhorn(1e-3)), batches()))
    first, second = warm(), warm()
    run(first, batches()[:2])
    second.load_state_dict(first.state_dict())
    rest = run(second, batches()[2:], number=2)
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.x_1, other.x_1)
    assert Entropic(0.1).state_dict() == {}
    with pytest.raises(InputError, match="has y and g"):
        second.load_state_dict({"potential": torch.ones(2)})


def test_a_state_of_another_dimension_is_not_used(generator):
    coupling = Entropic(0.1, warm_start=True)
    coupling(batch(20, generator), generator=generator)
    after = coupling(batch(20, generator, (5,)), generator=generator)
    assert after.x_1.shape == (20, 5)


def test_what_does_not_converge_warns_once(generator, caplog):
    coupling = Entropic(1e-3, solver=Sinkhorn(1e-9, 5))
    with caplog.at_level(logging.WARNING):
        stats = [coupling(batch(40, generator), generator=generator).stats for _ in range(2)]
    assert [float(s["coupling/converged"]) for s in stats] == [0, 0]
    assert sum("has not converged after" in r.message for r in caplog.records) == 1


def test_conditions_and_weights_are_refused(generator):
    pair = batch(4, generator)
    with pytest.raises(InputError, match="class_assignment"):
        Entropic(0.1)(Pair(pair.x_0, pair.x_1, {"label": torch.zeros(4, dtype=torch.int64)}))
    with pytest.raises(InputError, match="weigh the pairs after"):
        Entropic(0.1)(Pair(pair.x_0, pair.x_1, weight=torch.ones(4)))
    with pytest.raises(InputError, match="max_elements"):
        Entropic(0.1, max_elements=0)


def test_equal_points_cost_nothing_and_are_optimal():
    pair = Pair(torch.ones(5, 2), torch.ones(5, 2))
    after = Entropic(0.1)(pair, generator=torch.Generator().manual_seed(0))
    assert float(after.stats["coupling/cost"]) == 0
    assert float(after.stats["coupling/optimality"]) == 1
