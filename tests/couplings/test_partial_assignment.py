"""Partial assignment against enumeration and POT; how often its pairs come; what it leaves out."""

import itertools
from collections import Counter

import numpy as np
import ot
import pytest
import torch

from flowgen.core import Coupling, InputError, Pair
from flowgen.couplings import ExactAssignment, PartialAssignment, cheapest_pairs


def clouds(n, shape, generator, dtype=torch.float64):
    """Two clouds that share neither mean nor scale."""
    x_0 = torch.randn(n, *shape, generator=generator, dtype=dtype)
    return Pair(x_0, 1.8 * torch.randn(n, *shape, generator=generator, dtype=dtype) + 0.6)


def squared(pair):
    """Rows are noise, columns data."""
    return torch.cdist(pair.x_0.flatten(1).double(), pair.x_1.flatten(1).double()).square()


def pairs_of(before, after):
    """Which row of the noise met which row of the data, one for each row of the batch."""

    def rows(few, all_of):
        same = (few.flatten(1)[:, None] == all_of.flatten(1)).all(-1)
        assert bool((same.sum(dim=1) == 1).all())
        return same.int().argmax(dim=1).tolist()

    return list(zip(rows(after.x_0, before.x_0), rows(after.x_1, before.x_1), strict=True))


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_no_choice_of_k_pairs_is_cheaper(n, generator):
    for k in range(1, n + 1):
        cost = squared(clouds(n, (2,), generator))
        best = min(
            sum(float(cost[i, j]) for i, j in zip(rows, columns, strict=True))
            for rows in itertools.combinations(range(n), k)
            for columns in itertools.permutations(range(n), k)
        )
        i, j = cheapest_pairs(cost, k)
        assert len(set(i.tolist())) == len(set(j.tolist())) == k
        assert float(cost[i, j].sum()) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("k", [1, 30, 55, 60])
@pytest.mark.parametrize("shape", [(2,), (2, 3, 4)])
def test_cost_agrees_with_pot(shape, k, generator):
    cost = squared(clouds(60, shape, generator))
    i, j = cheapest_pairs(cost, k)
    uniform = np.full(60, 1 / 60)
    plan = np.asarray(ot.partial.partial_wasserstein(uniform, uniform, cost.numpy(), m=k / 60))
    theirs = float((plan * cost.numpy()).sum())
    assert float(cost[i, j].sum()) / 60 == pytest.approx(theirs, rel=1e-9)


def test_equal_points_and_many_ties_still_give_k_pairs(generator):
    for cost in (
        torch.zeros(7, 7, dtype=torch.float64),
        torch.randint(0, 2, (7, 7), generator=generator).double(),
    ):
        i, j = cheapest_pairs(cost, 4)
        assert len(set(i.tolist())) == len(set(j.tolist())) == 4
    with pytest.raises(InputError, match=r"k must be in \[1, 7\]"):
        cheapest_pairs(torch.zeros(7, 7), 0)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 3)])
@pytest.mark.parametrize(("n", "mass", "k"), [(1, 0.1, 1), (10, 0.7, 7), (11, 0.3, 4), (9, 1.0, 9)])
def test_the_batch_is_filled_by_the_cheapest_pairs_as_evenly_as_can_be(
    n, mass, k, shape, generator
):
    pair = clouds(n, shape, generator, torch.float32)
    coupling = PartialAssignment(mass)
    assert isinstance(coupling, Coupling)
    after = coupling(pair, generator=generator)
    assert after.x_0.shape == pair.x_0.shape
    counts = Counter(pairs_of(pair, after))
    i, j = cheapest_pairs(squared(pair), k)
    assert set(counts) == set(zip(i.tolist(), j.tolist(), strict=True))
    assert set(counts.values()) <= {n // k, -(-n // k)}
    assert float(after.stats["coupling/mass"]) == pytest.approx(k / n)
    assert float(after.stats["coupling/cost"]) == pytest.approx(
        float((after.x_0 - after.x_1).square().mean()), rel=1e-5
    )


def test_the_generator_decides_which_pairs_come_once_more_and_all_are_alike(generator):
    pair = clouds(10, (2,), generator)
    coupling = PartialAssignment(0.7)
    first, again, other = (
        coupling(pair, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.x_0, again.x_0)
    assert torch.equal(first.x_1, again.x_1)
    assert not torch.equal(first.x_0, other.x_0)
    total, place = Counter(), Counter()
    for _ in range(700):
        found = pairs_of(pair, coupling(pair, generator=generator))
        total.update(found)
        place[found[0]] += 1
    # 3 of 7 pairs come twice: each 1000 times on average, with variance 700 (3/7) (4/7).
    assert all(abs(count - 1000) < 5 * 13.1 for count in total.values())
    assert sum((count - 100) ** 2 / 100 for count in place.values()) < 6 + 5 * 12**0.5


def test_all_of_the_mass_is_the_exact_assignment(generator):
    pair = clouds(40, (3,), generator)
    after = PartialAssignment(1.0)(pair, generator=generator)
    exact = ExactAssignment()(pair)
    assert set(pairs_of(pair, after)) == set(pairs_of(pair, exact))
    assert float(after.stats["coupling/dropped_cost"]) == 0


def test_outliers_of_both_sides_are_left_out_and_told():
    """Of three samples at 0, 1 and 9 with noise at 0, 1 and -7 the far ones are left."""
    x_0, x_1 = torch.tensor([[0.0], [-7.0], [1.0]]), torch.tensor([[9.0], [1.0], [0.0]])
    pair = Pair(x_0.expand(3, 2), x_1.expand(3, 2))
    after = PartialAssignment(0.6)(pair, generator=torch.Generator().manual_seed(0))
    assert set(after.x_0[:, 0].tolist()) == set(after.x_1[:, 0].tolist()) == {0.0, 1.0}
    assert float(after.stats["coupling/dropped_cost"]) == pytest.approx((9 - 1) ** 2)
    assert float(after.stats["coupling/mass"]) == pytest.approx(2 / 3)


def test_order_scale_and_shift_do_not_change_the_set_of_pairs(generator):
    cost = squared(clouds(30, (2,), generator))
    i, j = cheapest_pairs(cost, 20)
    found = set(zip(i.tolist(), j.tolist(), strict=True))
    p, q = (torch.randperm(30, generator=generator) for _ in range(2))
    i, j = cheapest_pairs(cost[p][:, q], 20)
    assert set(zip(p[i].tolist(), q[j].tolist(), strict=True)) == found
    pair = clouds(30, (2,), generator)
    far = Pair(40 * pair.x_0 + 7, 40 * pair.x_1 + 7)
    coupling = PartialAssignment(0.5)
    one, other = (set(pairs_of(p, coupling(p, generator=generator))) for p in (pair, far))
    assert one == other


def test_what_it_says_of_itself_and_refuses(generator):
    coupling = PartialAssignment(0.5)
    facts = (coupling.score_valid, coupling.exact_marginals, coupling.condition_safe)
    assert facts == (False, False, False)
    pair = clouds(8, (2,), generator)
    with pytest.raises(InputError, match="class_assignment"):
        coupling(Pair(pair.x_0, pair.x_1, {"label": torch.zeros(8, dtype=torch.int64)}))
    with pytest.raises(InputError, match="weigh the pairs after"):
        coupling(Pair(pair.x_0, pair.x_1, weight=torch.ones(8)))
    with pytest.raises(InputError, match="8 x 8 is above max_elements=63"):
        PartialAssignment(0.5, max_elements=63)(pair)
    with pytest.raises(InputError, match="max_elements must be >= 1"):
        PartialAssignment(0.5, max_elements=0)
    for mass in (0.0, 1.1, -0.5, float("nan")):
        with pytest.raises(InputError, match=r"mass must be in \(0, 1\]"):
            PartialAssignment(mass)
    pair.x_1[5, 1] = float("inf")
    with pytest.raises(InputError, match="must be finite"):
        coupling(pair)
