import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.metrics import kernel_distance


def normal(n, d, generator, scale=1.0, shift=0.0):
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * scale + shift


def test_unbiased_on_equal_distributions(generator):
    # the mean over independent pairs of sets is 0 within its standard error
    found = torch.tensor(
        [
            kernel_distance(
                normal(10, 3, generator, shift=0.5),
                normal(10, 3, generator, shift=0.5),
                subset_size=10,
                num_subsets=1,
            ).mean
            for _ in range(400)
        ]
    )
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean())) < 3 * error
    assert bool((found < 0).any())
    # self-pairs, the usual bias, would add about E k(x, x) / 5 = 1: visible
    assert error < 0.3


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_equals_the_sum_over_pairs(generator, degree):
    x, y = normal(6, 4, generator), normal(6, 4, generator, 2.0, 1.0)

    def k(a, b):
        return float((a @ b / 4 + 1) ** degree)

    pairs = [(i, j) for i in range(6) for j in range(6)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / 30
    across = sum(k(x[i], y[j]) for i, j in pairs) / 36
    found = kernel_distance(x, y, subset_size=6, num_subsets=2, degree=degree)
    assert found.mean == pytest.approx(within - 2 * across, rel=1e-10)
    assert found.std == pytest.approx(0, abs=1e-9)


def test_closed_form_of_a_shift(generator):
    # degree 1: MMD^2 = |m_1 - m_2|^2 / d
    x, y = normal(4000, 2, generator), normal(4000, 2, generator, shift=1.5)
    found = kernel_distance(x, y, subset_size=2000, num_subsets=2, degree=1, generator=generator)
    assert found.mean == pytest.approx(1.5**2, rel=0.1)
    assert (found.subset_size, found.num_subsets) == (2000, 2)
    assert found.std > 0


def test_subsets_come_from_the_generator(generator):
    x, y = normal(40, 3, generator), normal(50, 3, generator, shift=1)

    def found(seed):
        draw = torch.Generator().manual_seed(seed)
        return kernel_distance(x, y, subset_size=20, num_subsets=3, generator=draw)

    assert found(0) == found(0)
    assert found(0) != found(1)


def test_bad_input_is_refused(generator):
    x = normal(5, 3, generator)
    with pytest.raises(InputError, match=r"\(n, d\) and \(m, d\)"):
        kernel_distance(x, x[:, :2], subset_size=2)
    with pytest.raises(InputError, match=r"subset_size must lie in \[2, 4\].*got 5"):
        kernel_distance(x, x[:4], subset_size=5)
    with pytest.raises(InputError, match="subset_size"):
        kernel_distance(x, x, subset_size=1)
    with pytest.raises(InputError, match="num_subsets must be >= 1, got 0"):
        kernel_distance(x, x, subset_size=2, num_subsets=0)
    with pytest.raises(InputError, match="degree must be >= 1, got 0"):
        kernel_distance(x, x, subset_size=2, degree=0)
    with pytest.raises(InputError, match="finite"):
        kernel_distance(x, x / 0, subset_size=2)
