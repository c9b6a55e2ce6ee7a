"""Exact assignment against enumeration, sorting, POT's network simplex and its invariances."""

import itertools

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from flowgen.core import InputError
from flowgen.couplings import optimal_permutation


def clouds(n, shape, generator, dtype=torch.float64):
    """Two clouds that share neither mean nor scale."""
    x_0 = torch.randn(n, *shape, generator=generator, dtype=dtype)
    x_1 = 2.5 * torch.randn(n, *shape, generator=generator, dtype=dtype) + 1.5
    return x_0, x_1 + torch.tanh(x_1)


def total(x_0, x_1):
    return float((x_0 - x_1).square().sum())


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)])
def test_no_permutation_is_cheaper(n, shape, generator):
    for _ in range(5):
        x_0, x_1 = clouds(n, shape, generator)
        best = min(total(x_0[list(p)], x_1) for p in itertools.permutations(range(n)))
        index = optimal_permutation(x_0, x_1)
        assert sorted(index.tolist()) == list(range(n))
        assert total(x_0[index], x_1) == pytest.approx(best, rel=1e-12)


def test_on_a_line_both_sides_are_sorted_alike(generator):
    x_0, x_1 = clouds(200, (1,), generator)
    index = optimal_permutation(x_0, x_1)
    order = x_1[:, 0].argsort()
    assert torch.equal(x_0[index][order], x_0.sort(dim=0).values)


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_cost_agrees_with_network_simplex(shape, generator):
    n = 128
    x_0, x_1 = clouds(n, shape, generator)
    cost = torch.cdist(x_0.flatten(1), x_1.flatten(1)).square().numpy()
    uniform = np.full(n, 1 / n)
    plan = ot.emd(uniform, uniform, cost, numItermax=10_000_000)
    ours = total(x_0[optimal_permutation(x_0, x_1)], x_1)
    assert ours / n == pytest.approx(float((plan * cost).sum()), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [3, 64, 65, 100, 128, 129, 161, 300])
@pytest.mark.parametrize("dims", [1, 2, 8, 9, 64])
def test_every_solver_finds_the_optimum(n, dims, dtype, generator):
    """Gaussians, clusters and points on a grid with many ties, against scipy in float64."""
    g = torch.randn(n, dims, generator=generator, dtype=torch.float64)
    clusters = 4 * torch.randn(5, dims, generator=generator, dtype=torch.float64)
    for x_1 in (1.5 * g + 1, clusters[torch.arange(n) % 5] + 0.3 * g.flip(0), g.round()):
        x_0 = torch.randn(n, dims, generator=generator, dtype=torch.float64)
        cost = torch.cdist(x_1, x_0).square().numpy()
        best = float(cost[linear_sum_assignment(cost)].sum())
        index = optimal_permutation(x_0.to(dtype), x_1.to(dtype))
        assert index.dtype == torch.int64
        assert torch.equal(index.sort().values, torch.arange(n))
        assert total(x_0[index], x_1) == pytest.approx(best, rel=1e-6)
        if dtype == torch.float64:
            assert total(x_0[index], x_1) == pytest.approx(best, rel=1e-10)


def test_far_outliers_and_equal_points_are_paired(generator):
    """The kernel of the sweeps has empty columns, and a cost without spread has no kernel."""
    x_0 = torch.randn(200, 2, generator=generator)
    x_0[:5] *= 1e6
    x_1 = torch.randn(200, 2, generator=generator)
    cost = torch.cdist(x_1.double(), x_0.double()).square().numpy()
    best = float(cost[linear_sum_assignment(cost)].sum())
    index = optimal_permutation(x_0.double(), x_1.double())
    assert total(x_0[index].double(), x_1.double()) == pytest.approx(best, rel=1e-9)
    same = optimal_permutation(torch.ones(200, 2), torch.zeros(200, 2))
    assert torch.equal(same.sort().values, torch.arange(200))


def test_order_of_the_rows_does_not_change_the_set_of_pairs(generator):
    x_0, x_1 = clouds(40, (3,), generator)
    p, q = torch.randperm(40, generator=generator), torch.randperm(40, generator=generator)
    index = optimal_permutation(x_0, x_1)
    shuffled = optimal_permutation(x_0[p], x_1[q])
    # Row i of x_1[q] is row q[i] of x_1; its partner is row p[shuffled[i]] of x_0.
    assert torch.equal(p[shuffled], index[q])


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 100.0), (0.01, -3.0), (40.0, 7.0)])
def test_shift_and_scale_of_either_side_do_not_change_the_pairs(scale, shift, generator):
    x_0, x_1 = clouds(60, (3,), generator)
    index = optimal_permutation(x_0, x_1)
    assert torch.equal(optimal_permutation(x_0, scale * x_1 + shift), index)
    assert torch.equal(optimal_permutation(scale * x_0 + shift, x_1), index)


@pytest.mark.parametrize(("n", "dims"), [(100, 2), (60, 200), (400, 200)])
def test_shift_of_float32_points_costs_no_accuracy(n, dims, generator):
    """Without centring, a shift of 1024 leaves the dot products 1 digit of the difference."""
    x_0, x_1 = clouds(n, (dims,), generator)
    # On a grid of 1/16 the shift by 1024 is exact in float32, so only the solver can lose digits.
    x_0, x_1 = (torch.round(16 * x) / 16 for x in (x_0, x_1))
    best = total(x_0[optimal_permutation(x_0, x_1)], x_1)
    index = optimal_permutation((x_0 + 1024).float(), (x_1 + 1024).float())
    assert total(x_0[index], x_1) == pytest.approx(best, rel=1e-6)


def test_ties_cost_the_same_whichever_way_they_fall(generator):
    x_0 = torch.randint(0, 3, (30, 2), generator=generator).double()
    x_1 = torch.randint(0, 3, (30, 2), generator=generator).double() + 1
    p = torch.randperm(30, generator=generator)
    first = total(x_0[optimal_permutation(x_0, x_1)], x_1)
    second = total(x_0[p][optimal_permutation(x_0[p], x_1)], x_1)
    assert first == pytest.approx(second, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_find_the_pairs_of_their_rounded_values(dtype, generator):
    x_0, x_1 = (x.to(dtype) for x in clouds(50, (5,), generator))
    index = optimal_permutation(x_0, x_1)
    best = optimal_permutation(x_0.double(), x_1.double())
    ours, exact = (total(x_0.double()[i], x_1.double()) for i in (index, best))
    assert ours == pytest.approx(exact, rel=1e-6)  # rounding of a float32 product


def test_autocast_does_not_make_the_pairs_worse(generator):
    x_0, x_1 = clouds(80, (16,), generator, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = optimal_permutation(x_0, x_1)
    assert torch.equal(inside, optimal_permutation(x_0, x_1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize(("n", "dims"), [(8, 1), (8, 2), (100, 2), (60, 100), (300, 64)])
def test_values_without_a_finite_cost_are_refused(n, dims, bad, generator):
    x_0, x_1 = clouds(n, (dims,), generator, torch.float32)
    x_0[[3, n // 2], -1] = bad
    x_1[2, -1] = -bad
    with pytest.raises(InputError, match="must be finite"):
        optimal_permutation(x_0, x_1)


def test_sides_of_different_shape_are_refused(generator):
    x = torch.randn(4, 2, generator=generator)
    with pytest.raises(InputError, match="one shape"):
        optimal_permutation(x, x.reshape(4, 2, 1)[:, :1])
