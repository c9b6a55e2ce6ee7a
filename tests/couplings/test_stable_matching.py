"""Stable matching against deferred acceptance and the definition, and its invariances."""

import pytest
import torch

from flowgen.core import Coupling, InputError, Pair
from flowgen.couplings import ExactAssignment, StableMatching, stable_matching, stable_permutation


def clouds(n, shape, generator, dtype=torch.float64):
    """Two clouds that share neither mean nor scale."""
    x_0 = torch.randn(n, *shape, generator=generator, dtype=dtype)
    return Pair(x_0, 1.8 * torch.randn(n, *shape, generator=generator, dtype=dtype) + 0.6)


def distances(pair):
    """Rows are noise, columns data."""
    return torch.cdist(pair.x_0.flatten(1).double(), pair.x_1.flatten(1).double())


def partners(before, after):
    """The row of the data that each row of the noise went to."""
    same = (before.x_0.flatten(1)[:, None] == after.x_0.flatten(1)).all(-1)
    assert bool((same.sum(dim=0) == 1).all())
    assert bool((same.sum(dim=1) == 1).all())
    return same.int().argmax(dim=1)


def deferred_acceptance(cost):
    """Rows propose in the order of their liking, columns keep the best so far (Gale, Shapley)."""
    orders, nexts = cost.argsort(dim=1).tolist(), [0] * len(cost)
    nobody = -1
    held = [nobody] * len(cost)
    free = list(range(len(cost)))
    while free:
        row = free.pop()
        column = orders[row][nexts[row]]
        nexts[row] += 1
        if held[column] == nobody:
            held[column] = row
        elif cost[row, column] < cost[held[column], column]:
            free.append(held[column])
            held[column] = row
        else:
            free.append(row)
    return torch.tensor(held).argsort()


def blocking_pairs(cost, partner):
    """Pairs nearer to each other than either is to its partner."""
    n = len(cost)
    back = partner.argsort()
    return [
        (i, j)
        for i in range(n)
        for j in range(n)
        if cost[i, j] < cost[i, partner[i]] and cost[i, j] < cost[back[j], j]
    ]


@pytest.mark.parametrize("shape", [(1,), (2,), (2, 3, 3)])
@pytest.mark.parametrize("n", [1, 2, 17, 150])
def test_it_is_the_matching_of_deferred_acceptance_whoever_proposes(n, shape, generator):
    pair = clouds(n, shape, generator)
    coupling = StableMatching()
    assert isinstance(coupling, Coupling)
    after = coupling(pair)
    assert torch.equal(after.x_1, pair.x_1)
    found = partners(pair, after)
    cost = distances(pair)
    assert torch.equal(found, deferred_acceptance(cost))
    assert torch.equal(found.argsort(), deferred_acceptance(cost.mT))


@pytest.mark.parametrize("n", [2, 6, 40])
def test_no_pair_blocks(n, generator):
    for _ in range(5):
        pair = clouds(n, (3,), generator)
        found = partners(pair, StableMatching()(pair))
        assert blocking_pairs(distances(pair), found) == []
        assert blocking_pairs(distances(pair), found.roll(1)) != []


@pytest.mark.parametrize(("per_row", "share"), [(1, 10**9), (3, 50), (10**9, 1)])
def test_stages_of_any_size_give_the_same_matching(per_row, share, generator, monkeypatch):
    """Also where all rows have the same nearest column, and where many costs are equal."""
    hubs = torch.rand(60, 1, generator=generator) + torch.rand(60, generator=generator)
    ties = torch.randint(0, 5, (60, 60), generator=generator).double()
    for cost in (torch.rand(60, 60, generator=generator), hubs, ties, torch.zeros(60, 60)):
        whole = stable_permutation(cost)
        with monkeypatch.context() as patch:
            patch.setattr(stable_matching, "_PER_ROW", per_row)
            patch.setattr(stable_matching, "_SHARE", share)
            assert torch.equal(stable_permutation(cost), whole)
        assert blocking_pairs(cost, whole) == []


def test_of_equal_costs_the_first_row_then_the_first_column_goes_first():
    cost = torch.tensor([[1.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.5, 1.0, 1.0]])
    assert stable_permutation(cost).tolist() == [1, 2, 0]
    assert stable_permutation(torch.zeros(4, 4)).tolist() == [0, 1, 2, 3]


def test_it_is_not_the_assignment_of_least_cost():
    """1 meets 0.9, which leaves 5 for 0; least cost keeps the order of both sides."""
    pair = Pair(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.9], [5.0]]))
    assert StableMatching()(pair).x_0.flatten().tolist() == [1.0, 0.0]
    assert ExactAssignment()(pair).x_0.flatten().tolist() == [0.0, 1.0]


def test_its_cost_lies_between_that_of_the_assignment_and_of_random_pairs(generator):
    pair = clouds(40, (3,), generator)
    stable, least = (
        float(c(pair).stats["coupling/cost"]) for c in (StableMatching(), ExactAssignment())
    )
    assert least < stable < 0.7 * float((pair.x_1 - pair.x_0).square().mean())


def test_order_of_the_rows_does_not_change_the_set_of_pairs(generator):
    pair = clouds(40, (2,), generator)
    p, q = (torch.randperm(40, generator=generator) for _ in range(2))
    found = partners(pair, StableMatching()(pair))
    shuffled = Pair(pair.x_0[p], pair.x_1[q])
    assert torch.equal(q[partners(shuffled, StableMatching()(shuffled))], found[p])


def test_a_common_scale_and_shift_changes_nothing_and_one_of_a_single_side_does(generator):
    pair = clouds(60, (3,), generator)
    found = partners(pair, StableMatching()(pair))
    both = Pair(40 * pair.x_0 + 7, 40 * pair.x_1 + 7)
    assert torch.equal(partners(both, StableMatching()(both)), found)
    one = Pair(pair.x_0, pair.x_1 + 7)
    assert not torch.equal(partners(one, StableMatching()(one)), found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_types_find_the_pairs_of_their_rounded_values(dtype, generator):
    # Far from the origin, where squares that were not centred would lose the differences.
    pair = clouds(80, (5,), generator)
    narrow = Pair((pair.x_0 + 100).to(dtype), (pair.x_1 + 100).to(dtype))
    wide = Pair(narrow.x_0.double(), narrow.x_1.double())
    index = StableMatching()(narrow).x_0
    if dtype == torch.float32:
        assert torch.equal(index.double(), StableMatching()(wide).x_0)
    else:
        # Rounding makes ties, which may fall either way.
        costs = [float(StableMatching()(p).stats["coupling/cost"]) for p in (narrow, wide)]
        assert costs[0] == pytest.approx(costs[1], rel=0.02)


def test_what_it_says_of_itself_and_refuses(generator):
    coupling = StableMatching()
    facts = (coupling.score_valid, coupling.exact_marginals, coupling.condition_safe)
    assert facts == (False, True, False)
    pair = clouds(8, (2,), generator)
    with pytest.raises(InputError, match="class_assignment"):
        coupling(Pair(pair.x_0, pair.x_1, {"label": torch.zeros(8, dtype=torch.int64)}))
    with pytest.raises(InputError, match="weigh the pairs after"):
        coupling(Pair(pair.x_0, pair.x_1, weight=torch.ones(8)))
    with pytest.raises(InputError, match="8 x 8 is above max_elements=63"):
        StableMatching(max_elements=63)(pair)
    with pytest.raises(InputError, match="max_elements must be >= 1"):
        StableMatching(max_elements=0)
    pair.x_1[5, 1] = float("nan")
    with pytest.raises(InputError, match="must be finite"):
        coupling(pair)
