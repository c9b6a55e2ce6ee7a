import itertools
import math

import numpy as np
import ot
import pytest
import torch

from flowgen.core import InputError
from flowgen.metrics import exact_w2, sliced_w2
from oracles import GaussianOracle, bures_w2_squared


def points(n, shape=(2,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)], ids=str)
def test_exact_distance_is_the_best_permutation(shape):
    x, y = points(5, shape), 2 * points(5, shape, 1) + 1
    costs = [
        float((x - y[list(order)]).square().sum() / 5) for order in itertools.permutations(range(5))
    ]
    result = exact_w2(x, y)
    assert result.w2_squared == pytest.approx(min(costs), rel=1e-12)
    assert result.w2 == pytest.approx(math.sqrt(min(costs)), rel=1e-12)


def test_exact_distance_agrees_with_pot():
    x, y = points(100), points(100, seed=1) * torch.tensor([1.0, 3.0]) + 1
    weights = np.full(100, 0.01)
    expected = ot.emd2(weights, weights, ot.dist(x.numpy(), y.numpy()))
    assert exact_w2(x, y).w2_squared == pytest.approx(expected, rel=1e-10)


def test_one_dimension_is_sorting():
    x, y = points(50, (1,)), points(50, (1,), 1) * 2 - 1
    expected = float((x.sort(0).values - y.sort(0).values).square().mean())
    assert exact_w2(x, y).w2_squared == pytest.approx(expected, rel=1e-12)
    assert sliced_w2(x, y, 3).w2_squared == pytest.approx(expected, rel=1e-12)


def test_affine_images_of_one_sample_have_the_bures_distance():
    # the optimal map of two Gaussians is optimal for any sample pushed through it
    cov_0 = torch.tensor([[1.0, -0.3], [-0.3, 0.6]]).double()
    cov_1 = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
    oracle = GaussianOracle(torch.tensor([1.0, -2.0]), cov_1, torch.tensor([0.5, 0.3]), cov_0)
    x = oracle.sample(1000, generator=torch.Generator().manual_seed(0)).x_0
    centred = x - x.mean(0)
    factor = torch.linalg.cholesky(centred.mT @ centred / len(x))
    white = centred @ torch.linalg.inv(factor).mT @ torch.linalg.cholesky(cov_0).mT
    x = white + oracle.mean_0  # now with exactly the oracle's mean and covariance
    y = oracle.optimal_map(x)
    result = exact_w2(x, y[torch.randperm(1000, generator=torch.Generator().manual_seed(1))])
    expected = bures_w2_squared(oracle.mean_0, cov_0, oracle.mean_1, cov_1)
    assert result.w2_squared == pytest.approx(expected, rel=1e-9)
    assert oracle.w2_squared() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)], ids=str)
def test_both_distances_of_a_shift(shape):
    x = points(40, shape)
    shift = torch.full(shape, 0.7).double()
    squared = float(shift.square().sum())
    assert exact_w2(x, x + shift).w2_squared == pytest.approx(squared, rel=1e-10)
    sliced = sliced_w2(x, x + shift, 4000, generator=torch.Generator().manual_seed(0))
    # the mean of <direction, shift>^2 is squared / d, with a relative error of sqrt(2 / 4000)
    assert sliced.w2_squared == pytest.approx(squared / shift.numel(), rel=0.1)
    assert sliced.w2 == pytest.approx(math.sqrt(sliced.w2_squared))


@pytest.mark.parametrize("distance", [exact_w2, lambda x, y: sliced_w2(x, y, 16)])
def test_invariances(distance):
    x, y = points(30), points(30, seed=1) + 5
    assert distance(x, x[torch.randperm(30)]).w2 == pytest.approx(0, abs=1e-7)
    assert distance(x[:1], y[:1]).w2 > 0


def test_far_from_the_origin_nothing_is_lost():
    x, y = points(30), points(30, seed=1)
    near, far = exact_w2(x, y).w2_squared, exact_w2(x + 1e6, y + 1e6).w2_squared
    assert far == pytest.approx(near, rel=1e-8)


def test_directions_come_from_the_generator():
    x, y = points(30), points(30, seed=1) * 3

    def sliced(seed):
        return sliced_w2(x, y, 4, generator=torch.Generator().manual_seed(seed)).w2

    assert sliced(0) == sliced(0) != sliced(1)


@pytest.mark.parametrize("distance", [exact_w2, sliced_w2])
def test_bad_sets_are_refused(distance):
    with pytest.raises(InputError, match=r"got \(3, 2\) and \(4, 2\)"):
        distance(points(3), points(4))
    with pytest.raises(InputError, match="as many points of one shape"):
        distance(points(3, (2,)), points(3, (1,)))
    with pytest.raises(InputError, match="n >= 1"):
        distance(points(0), points(0))
    with pytest.raises(InputError, match="n >= 1"):
        distance(torch.zeros(3), torch.zeros(3))
    with pytest.raises(InputError, match="finite"):
        distance(points(3), points(3) / 0)


def test_number_of_projections_is_checked():
    with pytest.raises(InputError, match="num_projections must be >= 1, got 0"):
        sliced_w2(points(3), points(3), 0)
