"""Assignment on likely pairs against scipy and lapx, its proof, and what it does when misled."""

import math

import lap
import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from flowgen.couplings import optimal_permutation, solver, sparse_assignment
from flowgen.couplings.reduced_cost import reduce_cost, spread_of
from flowgen.couplings.sparse_assignment import sparse_permutation


def costs(n, generator, dtype=torch.float64):
    """Squared distances of a normal cloud and of eight clusters."""
    x = torch.randn(n, 2, generator=generator, dtype=dtype)
    centre = 5 * torch.randn(8, 2, generator=generator, dtype=dtype)
    y = centre[torch.randint(8, (n,), generator=generator)]
    return torch.cdist(x, y + torch.randn(n, 2, generator=generator, dtype=dtype)).square()


def total(cost, column):
    return float(cost.double()[torch.arange(len(cost)), torch.from_numpy(column)].sum())


def best(cost):
    return float(cost.double().numpy()[linear_sum_assignment(cost.double().numpy())].sum())


@pytest.mark.parametrize("width", [1e-3, 0.3, 5.0, 1e4])
@pytest.mark.parametrize("n", [1, 2, 7, 60, 200])
def test_any_width_leads_to_the_optimum(n, width, generator, monkeypatch):
    cost = costs(n, generator)
    fails = []
    monkeypatch.setattr(sparse_assignment.lap, "lapjvh", lambda *_, **__: fails.append(1))
    monkeypatch.setattr(sparse_assignment, "_ROUNDS", 40)
    left = (cost - cost.amin(dim=1, keepdim=True)).contiguous()
    column = sparse_permutation(left, width)
    assert not fails  # the sparse solver found the proof itself
    assert sorted(column.tolist()) == list(range(n))
    assert total(cost, column) == pytest.approx(best(cost), rel=1e-10)


def test_the_potentials_prove_the_optimum(generator):
    """What is left has no cost below 0 and is 0 on the pairs: no permutation is cheaper."""
    cost = costs(150, generator)
    spread = float(cost.mean()) * (math.pi / 2) ** 0.5
    left = reduce_cost(cost.clone(), ((0.15, 10), (0.03, 10)), spread)
    column = sparse_permutation(left, 0.5)
    assert float(left.min()) >= -1e-10
    assert float(left[torch.arange(150), torch.from_numpy(column)].abs().max()) < 1e-10
    # Potentials of rows and columns are all that was taken off.
    taken = cost - left
    assert torch.allclose(
        taken - taken[:1] - taken[:, :1] + taken[0, 0], torch.zeros(150, 150).double()
    )


def test_a_permutation_that_is_not_the_best_is_not_believed(generator, monkeypatch):
    cost = costs(80, generator)
    solved = []

    def wrong(n, *_):
        solved.append(n)
        return 0.0, np.roll(np.arange(n), 1), None

    monkeypatch.setattr(sparse_assignment.lap, "lapmod", wrong)
    column = sparse_permutation(cost.clone(), 1e6)
    assert solved
    assert total(cost, column) == pytest.approx(best(cost), rel=1e-12)


@pytest.mark.parametrize("stages", [((0.2, 1),), ((0.15, 5),), ((0.15, 10), (0.01, 20))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reduced_costs_have_the_same_optimum(stages, dtype, generator):
    cost = costs(120, generator, dtype)
    left = reduce_cost(cost.clone(), stages, spread_of(cost))
    assert float(left.min()) >= 0
    assert torch.equal(left.amin(dim=1), torch.zeros(120, dtype=dtype))
    column = linear_sum_assignment(left.double().numpy())[1]
    assert total(cost, column) == pytest.approx(best(cost), rel=1e-6)


@pytest.mark.parametrize(("n", "dims"), [(1024, 2), (1030, 8), (1100, 20)])
@pytest.mark.parametrize("most", [1, 4096], ids=["finest", "fine"])
def test_large_batches_agree_with_a_dense_solver(n, dims, most, generator, monkeypatch):
    monkeypatch.setattr(solver, "_MOST_SPARSE", most)
    x_0 = torch.randn(n, dims, generator=generator)
    x_1 = torch.randn(n, dims, generator=generator).square() + 1
    for y in (x_1, x_1.round()):  # with many ties too
        cost = torch.cdist(y.double(), x_0.double()).square()
        least = lap.lapjvh(cost.numpy())[0]
        index = optimal_permutation(x_0, y)
        assert torch.equal(index.sort().values, torch.arange(n))
        assert total(cost, index.numpy()) == pytest.approx(least, rel=1e-7)


@pytest.mark.parametrize("dims", [2, 16])
def test_large_batches_of_equal_points_are_paired(dims):
    index = optimal_permutation(torch.ones(1024, dims), torch.zeros(1024, dims))
    assert torch.equal(index.sort().values, torch.arange(1024))
