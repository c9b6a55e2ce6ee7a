"""A few times, equally likely, and no others."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.objectives import Discrete, TimeSampler


def test_draws_are_the_first_ends_of_equal_steps(generator):
    times = Discrete(4)(40_000, generator=generator)
    assert isinstance(Discrete(4), TimeSampler)
    assert times.dtype == torch.float32
    values, counts = (times * 4).round().unique(return_counts=True)
    assert values.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(times, (times * 4).round() / 4, atol=1e-7, rtol=0)
    # Four sides of a fair die: standard deviation of a count 87.
    assert float((counts - 10_000).abs().max()) < 350


def test_one_time_is_the_source(generator):
    times = Discrete()(100, generator=generator)
    assert float(times.max()) < 1e-7
    assert float(times.min()) > 0  # as of every time sampler


def test_density_is_that_of_steps_of_equal_length():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.equal(Discrete(3).density(t), torch.ones_like(t))


def test_refuses_no_times():
    with pytest.raises(InputError, match="num_times must be >= 1, got 0"):
        Discrete(0)
    with pytest.raises(InputError, match="n must be >= 0"):
        Discrete(2)(-1)
