"""How near to the least cost: by enumeration, by another solver, and where it is told at all."""

import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.optimize import linprog, minimize

from flowgen.core import Pair
from flowgen.couplings import (
    ConditionAssignment,
    CosineDistance,
    DataTilt,
    ExactAssignment,
    PairCosts,
    PartialAssignment,
    SinkhornTilt,
    StableMatching,
    UnbalancedTransport,
    Weighted,
    partial_assignment,
)
from flowgen.couplings.optimality import dual_gap, excess_of, plan_optimality, share_saved
from flowgen.couplings.unbalanced_plan import optimality_of, unbalanced_plan

ROOT = Path(__file__).parents[2]
FITTED = {"made_pairs", "semidiscrete", "stored"}
"""Couplings that need a file; theirs are tested beside them."""


def clouds(n, generator, shape=(2,), dtype=torch.float64):
    """Two clouds that share neither mean nor scale."""
    x_0 = torch.randn(n, *shape, generator=generator, dtype=dtype)
    return Pair(x_0, 1.8 * torch.randn(n, *shape, generator=generator, dtype=dtype) + 0.6)


def squared(pair):
    """Per dimension; rows are noise, columns data."""
    x_0, x_1 = pair.x_0.flatten(1), pair.x_1.flatten(1)
    return torch.cdist(x_0, x_1).square() / x_0.shape[1]


def least(cost):
    n = len(cost)
    return min(
        sum(float(cost[i, j]) for i, j in enumerate(order)) / n
        for order in itertools.permutations(range(n))
    )


def documented():
    """The rows of the table of the docs: which figures each coupling tells."""
    text = (ROOT / "docs" / "couplings.md").read_text()
    table = text.split("| `coupling=` | `cost` | `saved` | `ms` | `optimality` |")[1].split("\n\n")[
        0
    ]
    found = {}
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = [f"coupling/{name}" for name in ("cost", "saved", "ms", "optimality")]
        told = {name for name, cell in zip(names, cells[1:], strict=True) if cell != "no"}
        found |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), told)
    return found


CHOICES = sorted(file.stem for file in (ROOT / "configs" / "coupling").glob("*.yaml"))


def test_the_table_of_the_docs_has_every_choice():
    assert set(documented()) == set(CHOICES)


@pytest.mark.parametrize("choice", [c for c in CHOICES if c not in FITTED])
def test_every_choice_tells_the_figures_of_the_table(choice, generator):
    coupling = instantiate(OmegaConf.load(ROOT / "configs" / "coupling" / f"{choice}.yaml"))
    pair = clouds(128, generator, dtype=torch.float32)
    if choice in ("class_assignment", "condition_assignment"):
        pair = Pair(pair.x_0, pair.x_1, {"label": torch.arange(128) % 2})
    stats = coupling(pair, generator=generator).stats
    usual = {f"coupling/{name}" for name in ("cost", "saved", "ms", "optimality")}
    assert set(stats) & usual == documented()[choice]
    assert all(math.isfinite(float(value)) for value in stats.values())
    # Float32 rounds, and what was drawn from a plan is told of the plan.
    assert 0 <= float(stats.get("coupling/optimality", 1)) <= 1 + 1e-5


@pytest.mark.parametrize("shape", [(2,), (1, 2, 3)])
@pytest.mark.parametrize("n", [2, 5, 6])
def test_stable_matching_against_enumeration(n, shape, generator):
    found = []
    for _ in range(8):
        pair = clouds(n, generator, shape)
        stats = StableMatching()(pair).stats
        cost, best = squared(pair), least(squared(pair))
        given = float(cost.diagonal().mean())
        gone, could = given - float(stats["coupling/cost"]), given - best
        # Of two rows the stable pairs may be the worse of both ways.
        expected = max(gone / could, 0) if could > 1e-12 else float(gone > -1e-12)
        found.append(float(stats["coupling/optimality"]))
        assert found[-1] == pytest.approx(expected, abs=1e-9)
    assert min(found) < 0.99 or n == 2


def test_of_many_pairs_the_first_256_are_looked_at(generator):
    pair = clouds(300, generator)
    assert float(excess_of(ExactAssignment()(pair))) == 0
    mixed = Pair(pair.x_0, pair.x_1)
    first = Pair(pair.x_0[:256], pair.x_1[:256])
    best = ExactAssignment()(first).stats["coupling/cost"]
    excess = float((first.x_0 - first.x_1).square().mean() - best)
    assert float(excess_of(mixed)) == pytest.approx(excess, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_the_dual_gap_proves_optimal_pairs_and_bounds_the_excess_of_others(n, generator):
    for _ in range(5):
        cost = torch.rand(n, n, generator=generator, dtype=torch.float64) ** 2
        best = least(cost)
        for order in itertools.islice(itertools.permutations(range(n)), 40):
            partner = torch.tensor(order)
            excess = float(cost[torch.arange(n), partner].mean()) - best
            gap = float(dual_gap(cost, partner))
            assert gap >= excess - 1e-12
            assert (gap < 1e-12) == (excess < 1e-12)


def test_the_gap_of_a_part_of_many_pairs(generator):
    pair = clouds(400, generator)
    after = ExactAssignment()(pair)
    cost = squared(after)
    assert float(dual_gap(cost, torch.arange(400))) < 1e-12
    assert float(dual_gap(cost, torch.arange(400).flip(0))) > 0.1


@pytest.mark.parametrize("n", [5, 6])
def test_condition_assignment_is_optimal_with_its_price_and_swapped_pairs_are_not(
    n, generator, monkeypatch
):
    pair = clouds(n, generator)
    text = {"text": torch.randn(n, 4, generator=generator, dtype=torch.float64)}
    given = Pair(pair.x_0, pair.x_1, text)
    stats = ConditionAssignment(0.4)(given).stats
    assert float(stats["coupling/optimality"]) == pytest.approx(1, abs=1e-12)
    total = squared(given) + stats["coupling/weight"] * CosineDistance()(text)
    paired = stats["coupling/cost"] + stats["coupling/weight"] * stats["coupling/moved"]
    assert float(paired) == pytest.approx(least(total), rel=1e-9)
    # A solver that gets it wrong does not call itself optimal.
    monkeypatch.setattr(
        "flowgen.couplings.condition_assignment.lap.lapjvh",
        lambda cost, return_cost: (None, torch.arange(n).roll(1).numpy()),
    )
    wrong = ConditionAssignment(0.4)(given).stats
    assert float(wrong["coupling/optimality"]) < 0.9


@pytest.mark.parametrize(("n", "mass"), [(1, 1.0), (5, 0.6), (6, 0.5), (6, 1.0), (300, 0.9)])
def test_partial_assignment_is_optimal_among_choices_and_wrong_ones_are_not(
    n, mass, generator, monkeypatch
):
    pair = clouds(n, generator)
    stats = PartialAssignment(mass)(pair, generator=generator).stats
    assert float(stats["coupling/optimality"]) == pytest.approx(1, abs=1e-9)
    if n not in (5, 6) or mass == 1:
        return
    k = math.ceil(mass * n)
    cost = squared(pair)
    best = min(
        float(cost[list(rows), list(columns)].mean())
        for rows in itertools.combinations(range(n), k)
        for columns in itertools.permutations(range(n), k)
    )
    whole, columns = partial_assignment._assigned(2 * cost, k)
    # Rows 0 and 1 of the larger matrix change their places, true or not.
    columns[[0, 1]] = columns[[1, 0]]
    monkeypatch.setattr(partial_assignment, "_assigned", lambda cost, k: (whole, columns))
    wrong = PartialAssignment(mass)(pair, generator=generator).stats
    i, j = partial_assignment._true_pairs(cost, columns)
    given, own = float(cost.diagonal().mean()), float(cost[i, j].mean())
    assert own > best
    # The bound of the excess makes it one of the share, from below.
    assert float(wrong["coupling/optimality"]) <= max((given - own) / (given - best), 0) + 1e-9


@pytest.mark.parametrize("correction", [None, DataTilt(), SinkhornTilt(3), SinkhornTilt(200)])
@pytest.mark.parametrize("epsilon", [0.02, 0.5, 5.0])
def test_weighted_pairs_against_a_linear_program_between_their_own_marginals(
    epsilon, correction, generator
):
    pair = clouds(6, generator)
    stats = Weighted(epsilon=epsilon, correction=correction)(pair).stats
    cost = torch.cdist(pair.x_0, pair.x_1)
    logs = -cost / epsilon if correction is None else correction(-cost / epsilon)
    plan = logs.exp() / logs.exp().sum()
    a, b = plan.sum(dim=1), plan.sum(dim=0)
    sides = [torch.eye(6).repeat_interleave(6, 1), torch.eye(6).repeat(1, 6)]
    best = linprog(
        cost.flatten().numpy(),
        A_eq=torch.cat(sides).numpy(),
        b_eq=torch.cat([a, b]).numpy(),
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    ).fun
    given, value = float(a @ cost @ b), float((plan * cost).sum())
    found = float(stats["coupling/optimality"])
    exact = (given - value) / (given - best) if given - best > 1e-9 else 1.0
    assert 0 <= found <= exact + 1e-6
    # The dual value of the plan's own potentials is the better the smaller epsilon is.
    if epsilon == 0.02 and given - best > 1e-6:
        assert found > 0.9
    own = float(plan_optimality(cost, logs + 3, epsilon))
    assert found == pytest.approx(own, rel=1e-9)


def objective(plan, costs, rho):
    """That of unbalanced transport, for the cost ``|x - y|^2 / 2`` and equal weights."""

    def kl(p, q):
        return (torch.xlogy(p, p / q) - p + q).sum()

    n = len(plan)
    cost = -costs.x @ costs.y.mT + costs.row[:, None] + costs.column
    uniform = torch.full((n,), 1 / n, dtype=torch.float64)
    prices = sum(
        r * kl(plan.sum(dim=d), uniform) for r, d in zip(rho, (1, 0), strict=True) if r < math.inf
    )
    return (plan * cost).sum() + prices, kl(plan, uniform[:, None] * uniform)


@pytest.mark.parametrize("rho", [(1.0, 0.4), (math.inf, 0.5), (0.5, math.inf)])
@pytest.mark.parametrize("sweeps", [1, 3, 5000])
def test_unbalanced_transport_against_another_minimiser(sweeps, rho, generator):
    pair = clouds(6, generator)
    costs = PairCosts(pair.x_0, pair.x_1)
    epsilon = 0.3 * costs.std
    rho = tuple(r * costs.std for r in rho)

    def energy(logs):
        plan = torch.from_numpy(logs).reshape(6, 6).requires_grad_()
        p = plan.exp()
        # A side that is kept is made exact: no price is high enough for a minimiser.
        for dim, r in zip((1, 0), rho, strict=True):
            p = p / (6 * p.sum(dim=dim, keepdim=True)) if r == math.inf else p
        value, divergence = objective(p, costs, rho)
        total = value + epsilon * divergence
        total.backward()
        return float(total.detach()), plan.grad.flatten().numpy()

    start = torch.full((36,), math.log(1 / 36), dtype=torch.float64).numpy()
    best = minimize(
        energy, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10}
    )
    plan = unbalanced_plan(costs, epsilon, rho, tolerance=1e-13, max_sweeps=sweeps)
    p = torch.cat([logs.exp() for _, logs in plan.log_rows()])
    value, divergence = objective(p, costs, rho)
    given, value = energy(start)[0], float(value + epsilon * divergence)
    found = optimality_of(plan, rho, plan.row_marginal, plan.column_marginal)
    exact = (given - value) / (given - best.fun)
    if sweeps == 5000:
        assert found == pytest.approx(1, abs=1e-9)
        assert value == pytest.approx(best.fun, rel=1e-8)
    elif math.inf not in rho:
        # The dual value is below the least, by as much as the plan is above or more.
        assert found <= exact + 1e-9
        assert found < 1 - 1e-6


def test_unbalanced_pairs_tell_the_optimality_of_their_plan(generator):
    pair = clouds(40, generator)
    rough, fine = (
        UnbalancedTransport(0.5, 1.0, tolerance=tolerance)(pair, generator=generator).stats
        for tolerance in (10.0, 1e-10)
    )
    assert float(fine["coupling/optimality"]) == pytest.approx(1, abs=1e-12)
    assert 0 < float(rough["coupling/optimality"]) < 1 - 1e-6


def test_pairs_without_spread_are_optimal_and_values_that_are_none_stay_so():
    same = Pair(torch.ones(4, 2), torch.zeros(4, 2))
    ones = {"text": torch.ones(4, 3)}
    for coupling in (StableMatching(), PartialAssignment(0.5), UnbalancedTransport(1.0, 1.0)):
        assert float(coupling(same).stats["coupling/optimality"]) == pytest.approx(1)
    stats = ConditionAssignment(0.4)(Pair(same.x_0, same.x_1, ones)).stats
    assert float(stats["coupling/optimality"]) == 1
    assert float(Weighted(0.5)(same).stats["coupling/optimality"]) == 1
    given, cost, gap = torch.tensor([3.0, 2.0, math.nan])
    assert math.isnan(share_saved(given, cost, gap))
    assert float(share_saved(given, cost, cost)) == pytest.approx(1 / 3)
