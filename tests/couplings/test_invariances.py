"""What no coupling may depend on: order of rows, place, scale, precision, ties, the generator."""

import pytest
import torch

from flowgen.core import Pair
from flowgen.couplings import (
    ClassAssignment,
    ConditionAssignment,
    DataTilt,
    ExactAssignment,
    Independent,
    SinkhornTilt,
    Weighted,
    cell_of,
    optimal_permutation,
)
from oracles import bures_map, bures_w2_squared

COUPLINGS = {
    "exact": ExactAssignment(),
    "class": ClassAssignment(),
    "condition": ConditionAssignment(0.2),
}


def batch(name, n, generator, grid=False):
    """Rows of two clouds with mean and scale of their own; on a grid many of them are equal."""
    x_0 = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    x_1 = 1.7 * torch.randn(n, 2, generator=generator, dtype=torch.float64) - 0.8
    if grid:
        x_0, x_1 = x_0.round(), x_1.round()
    if name == "exact":
        return Pair(x_0, x_1)
    if name == "class":
        return Pair(x_0, x_1, {"label": torch.randint(0, 3, (n,), generator=generator)})
    return Pair(x_0, x_1, {"text": torch.randn(n, 4, generator=generator, dtype=torch.float64)})


def turned(pair, p):
    cond = None if pair.cond is None else {k: v[p] for k, v in pair.cond.items()}
    return Pair(pair.x_0[p], pair.x_1[p], cond)


def moved(pair, scale, shift):
    return Pair(scale * pair.x_0 + shift, scale * pair.x_1 + shift, pair.cond)


@pytest.mark.parametrize("name", COUPLINGS)
def test_rows_in_another_order_are_paired_alike(name, generator):
    pair = batch(name, 40, generator)
    p = torch.randperm(40, generator=generator)
    ours, other = COUPLINGS[name](pair), COUPLINGS[name](turned(pair, p))
    assert torch.equal(other.x_0, ours.x_0[p])
    assert torch.equal(other.x_1, ours.x_1[p])
    for key, value in (ours.cond or {}).items():
        assert other.cond is not None
        assert torch.equal(other.cond[key], value[p])


def test_the_noise_of_a_class_may_come_in_any_order(generator):
    pair = batch("class", 40, generator)
    assert pair.cond is not None
    label = pair.cond["label"]
    x_0 = pair.x_0.clone()
    for value in label.unique():
        rows = (label == value).nonzero().flatten()
        x_0[rows] = pair.x_0[rows[torch.randperm(len(rows), generator=generator)]]
    assert not torch.equal(x_0, pair.x_0)
    coupling = COUPLINGS["class"]
    assert torch.equal(coupling(Pair(x_0, pair.x_1, pair.cond)).x_0, coupling(pair).x_0)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 100.0), (0.01, -3.0), (40.0, 7.0)])
@pytest.mark.parametrize("name", COUPLINGS)
def test_a_common_scale_and_shift_changes_no_pair(name, scale, shift, generator):
    pair = batch(name, 40, generator)
    ours, other = COUPLINGS[name](pair), COUPLINGS[name](moved(pair, scale, shift))
    # Rows are apart by far more than the rounding of the move.
    assert torch.allclose(other.x_0, scale * ours.x_0 + shift, rtol=1e-12, atol=1e-12)
    assert float(other.stats["coupling/saved"]) == pytest.approx(
        float(ours.stats["coupling/saved"]), rel=1e-6
    )


@pytest.mark.parametrize("name", ["exact", "class"])
def test_a_scale_and_shift_of_the_data_alone_changes_no_pair(name, generator):
    pair = batch(name, 40, generator)
    ours = COUPLINGS[name](pair)
    other = COUPLINGS[name](Pair(pair.x_0, 3 * pair.x_1 - 5, pair.cond))
    assert torch.equal(other.x_0, ours.x_0)


@pytest.mark.parametrize("name", COUPLINGS)
def test_single_precision_finds_the_pairs_of_double(name, generator):
    pair = batch(name, 40, generator)
    single = Pair(pair.x_0.float(), pair.x_1.float(), pair.cond)
    wide = Pair(single.x_0.double(), single.x_1.double(), pair.cond)
    ours, exact = COUPLINGS[name](single), COUPLINGS[name](wide)
    assert ours.x_0.dtype == torch.float32
    assert torch.equal(ours.x_0.double(), exact.x_0)


@pytest.mark.parametrize("name", COUPLINGS)
def test_ties_may_fall_either_way_at_the_same_cost(name, generator):
    pair = batch(name, 40, generator, grid=True)
    p = torch.randperm(40, generator=generator)
    ours, other = COUPLINGS[name](pair), COUPLINGS[name](turned(pair, p))
    if name == "condition":
        # Prices differ from pair to pair, so what ties is the cost with the price.
        for key in ("coupling/weight", "coupling/ratio"):
            assert float(other.stats[key]) == pytest.approx(float(ours.stats[key]), rel=1e-9)
        totals = [
            float(c.stats["coupling/cost"])
            + float(c.stats["coupling/weight"]) * float(c.stats["coupling/moved"])
            for c in (ours, other)
        ]
        assert totals[0] == pytest.approx(totals[1], rel=1e-9)
    else:
        cost = float(ours.stats["coupling/cost"])
        assert float(other.stats["coupling/cost"]) == pytest.approx(cost, rel=1e-12)
    for coupled, given in ((ours, pair), (other, turned(pair, p))):
        assert sorted(coupled.x_0.tolist()) == sorted(given.x_0.tolist())


@pytest.mark.parametrize(
    "coupling",
    [Independent(), ExactAssignment(), Weighted(1.0), Weighted(1.0, correction=DataTilt())],
)
def test_what_draws_nothing_leaves_the_generator_where_it_was(coupling, generator):
    pair = batch("exact", 20, generator)
    before = generator.get_state()
    with_one = coupling(pair, generator=generator)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(with_one.x_0, coupling(pair).x_0)


def test_a_larger_batch_brings_each_class_closer(generator):
    """Between independent pairs and the true map of each class, which are at -3 and 3."""
    costs = []
    for n in (4, 32, 256):
        total = []
        for _ in range(2048 // n):
            label = torch.randint(0, 2, (n,), generator=generator)
            x_1 = 0.5 * torch.randn(n, 2, generator=generator) + (6.0 * label - 3)[:, None]
            pair = Pair(torch.randn(n, 2, generator=generator), x_1, {"label": label})
            total.append(float(ClassAssignment()(pair).stats["coupling/cost"]))
        costs.append(sum(total) / len(total))
    independent, optimal = 9 + 1 + 0.5**2, 9 + (1 - 0.5) ** 2
    assert independent > costs[0] > costs[1] > costs[2] > optimal - 0.05


def test_the_map_between_gaussians_is_found_from_its_images(generator):
    """``T x`` is the gradient of a convex function, so its graph is optimal for any sample."""
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.3], [-0.3, 0.6]], dtype=torch.float64)
    x = torch.randn(2000, 2, generator=generator, dtype=torch.float64)
    # With the very moments of N(0, a), so that the cost is that of the closed form.
    x = x - x.mean(dim=0)
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(x.mT @ x / 2000), x.mT, upper=False)
    x = (torch.linalg.cholesky(a) @ x).mT
    y = x @ bures_map(a, b).mT
    p = torch.randperm(2000, generator=generator)
    index = optimal_permutation(x[p], y)
    assert torch.equal(p[index], torch.arange(2000))
    zero = torch.zeros(2, dtype=torch.float64)
    cost = float((x - y).square().sum(dim=1).mean())
    assert cost == pytest.approx(0.506374, abs=1e-6)
    assert cost == pytest.approx(bures_w2_squared(zero, a, zero, b), rel=1e-9)


@pytest.mark.parametrize("correction", [None, DataTilt(), SinkhornTilt(50)])
def test_weights_follow_their_rows_and_the_unit_of_the_strength(correction, generator):
    pair = batch("exact", 60, generator)

    def weights(pair, epsilon=1.0):
        weight = Weighted(epsilon=epsilon, correction=correction)(pair).weight
        assert weight is not None
        return weight

    ours = weights(pair)
    p = torch.randperm(60, generator=generator)
    assert torch.allclose(weights(turned(pair, p)), ours[p], rtol=1e-9)
    assert torch.allclose(weights(moved(pair, 1.0, 50.0)), ours, rtol=1e-9)
    assert torch.allclose(weights(moved(pair, 40.0, 7.0), 40.0), ours, rtol=1e-9)
    single = weights(Pair(pair.x_0.float(), pair.x_1.float()))
    assert torch.allclose(single.double(), ours, rtol=1e-3)
    # Rows that are equal weigh the same.
    twice = weights(Pair(pair.x_0.repeat(2, 1), pair.x_1.repeat(2, 1)))
    assert torch.allclose(twice[:60], twice[60:], rtol=1e-9)


def test_partners_from_the_training_set_do_not_depend_on_its_order_or_the_precision(generator):
    x, y = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (50, 80))
    g = 0.3 * torch.randn(80, generator=generator, dtype=torch.float64)
    index = cell_of(x, y, g)
    p = torch.randperm(80, generator=generator)
    assert torch.equal(p[cell_of(x, y[p], g[p])], index)
    assert torch.equal(cell_of(x.float(), y.float(), g.float()), index)
    # A constant on all potentials is no price, and of equal samples any one will do.
    assert torch.equal(cell_of(x, y, g + 3), index)
    both = cell_of(x, torch.cat([y, y]), torch.cat([g, g]))
    assert torch.equal(both % 80, index)
