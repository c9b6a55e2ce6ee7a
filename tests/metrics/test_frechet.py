import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.datasets import load_digits

from flowgen.core import InputError
from flowgen.metrics import GaussianStatistics, frechet_distance
from oracles import bures_w2_squared


def moments(n=40, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    x = x @ torch.randn(d, d, generator=generator, dtype=torch.float64) + seed + 0.5
    return x.mean(0), x.mT.cov()


def test_commuting_covariances():
    # FD = |m|^2 + sum (sqrt a - sqrt b)^2
    zero, mean = torch.zeros(3).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    a, b = torch.tensor([4.0, 9.0, 0.0]).double(), torch.tensor([1.0, 0.25, 2.25]).double()
    expected = 5.25 + (2 - 1) ** 2 + (3 - 0.5) ** 2 + (0 - 1.5) ** 2
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    for turn in (torch.eye(3).double(), rotation):
        cov_a, cov_b = ((turn * values) @ turn.mT for values in (a, b))
        found = frechet_distance(zero, cov_a, mean, cov_b)
        assert found == pytest.approx(expected, abs=1e-6)  # a root of rounding in the null space
        assert frechet_distance(mean, cov_b, zero, cov_a) == pytest.approx(expected, abs=1e-6)


def test_value_of_two_by_two_matrices():
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
    b = torch.tensor([[1.0, -0.3], [-0.3, 0.6]]).double()
    zero = torch.zeros(2).double()
    assert frechet_distance(zero, a, zero, b) == pytest.approx(0.506374, abs=1e-6)


def test_agrees_with_a_matrix_root_and_with_the_oracle():
    (mean_1, cov_1), (mean_2, cov_2) = moments(seed=0), moments(seed=1)
    root = np.real(scipy.linalg.sqrtm((cov_1 @ cov_2).numpy()))
    expected = float((mean_1 - mean_2).square().sum() + (cov_1 + cov_2).trace())
    expected -= 2 * float(np.trace(root))
    found = frechet_distance(mean_1, cov_1, mean_2, cov_2)
    assert found == pytest.approx(expected, rel=1e-8)
    assert found == pytest.approx(bures_w2_squared(mean_1, cov_1, mean_2, cov_2), rel=1e-10)


def test_rank_deficient_covariances():
    # 4 samples of 50 features: rank 3. Scaling by c multiplies all roots by c
    mean, cov = moments(n=4, d=50)
    scale = float(cov.trace())
    assert frechet_distance(mean, cov, mean, cov) == pytest.approx(0, abs=1e-6 * scale)
    found = frechet_distance(mean, cov, 3 * mean, 9 * cov)
    expected = float((2 * mean).square().sum()) + 4 * scale
    assert found == pytest.approx(expected, rel=1e-6)
    nothing = torch.zeros(50, 50).double()
    assert frechet_distance(mean, cov, mean, nothing) == pytest.approx(scale, rel=1e-9)
    assert frechet_distance(mean, nothing, mean, cov) == pytest.approx(scale, rel=1e-9)


def test_real_halves_are_close_and_noise_is_far():
    x = torch.from_numpy(load_digits().data).double()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    noise = torch.rand(898, 64, generator=torch.Generator().manual_seed(1)) * 16

    def statistics(rows):
        found = GaussianStatistics(64)
        found.update(rows)
        return found

    half = statistics(x[order[:898]])
    floor = half.distance(statistics(x[order[898:]]))
    assert 0 < floor < 0.01 * half.distance(statistics(noise))


@pytest.mark.parametrize("sizes", [(30,), (1, 29), (10, 0, 20), (7, 7, 7, 9), (1,) * 30], ids=str)
def test_statistics_do_not_depend_on_the_split(sizes):
    generator = torch.Generator().manual_seed(0)
    # far from the origin, where a sum of squares would lose all digits of the covariance
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64) + 1e7
    statistics = GaussianStatistics(4)
    for part in x.split(list(sizes)):
        statistics.update(part)
    assert statistics.count == 30
    torch.testing.assert_close(statistics.mean, x.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(statistics.cov, x.mT.cov(), rtol=1e-6, atol=1e-7)


def test_distance_of_statistics_follows_what_either_side_takes_in():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(9, 4, generator=generator, dtype=torch.float64) + i for i in range(4)]
    one, other = GaussianStatistics(4), GaussianStatistics(4)
    for ours, theirs in zip(rows[:2], rows[2:], strict=True):
        one.update(ours)
        other.update(theirs)
        want = frechet_distance(other.mean, other.cov, one.mean, one.cov)
        assert one.distance(other) == pytest.approx(want, rel=1e-10)
        assert other.distance(one) == pytest.approx(want, rel=1e-10)
    with pytest.raises(InputError, match="one length, got 4 beside 3"):
        one.distance(GaussianStatistics(3))


def test_statistics_are_kept_in_float64():
    statistics = GaussianStatistics(2)
    statistics.update(torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float16))
    assert statistics.mean.dtype == torch.float64
    assert statistics.mean.tolist() == [2.0, 3.5]
    assert statistics.cov.tolist() == [[2.0, 3.0], [3.0, 4.5]]


def test_bad_input_is_refused():
    mean, cov = moments()
    with pytest.raises(InputError, match=r"means must be \(5,\)"):
        frechet_distance(mean, cov, mean[:4], cov[:4, :4])
    with pytest.raises(InputError, match="finite"):
        frechet_distance(mean, cov, mean / 0, cov)
    with pytest.raises(InputError, match="num_features must be >= 1, got 0"):
        GaussianStatistics(0)
    statistics = GaussianStatistics(2)
    with pytest.raises(InputError, match=r"must be \(n, 2\), got \(3, 3\)"):
        statistics.update(torch.zeros(3, 3))
    with pytest.raises(InputError, match="finite"):
        statistics.update(torch.full((1, 2), float("nan")))
    with pytest.raises(InputError, match="at least 1 sample"):
        _ = statistics.mean
    statistics.update(torch.zeros(1, 2))
    with pytest.raises(InputError, match="at least 2 samples, got 1"):
        _ = statistics.cov
