import math

import pytest
import torch
from scipy import stats

from flowgen.core import InputError, Source
from flowgen.data import EightGaussians, Mixture

TABLE = Mixture([[-2.0, 0.5], [1.0, 3.0], [4.0, -1.0]], [0.4, 1.2, 0.7], [2.0, 1.0, 5.0])


def test_moments_are_those_of_the_table(generator):
    n = 200_000
    x = TABLE.sample(n, generator=generator)
    assert isinstance(TABLE, Source)
    assert x.dtype == torch.float32
    w = torch.tensor([2.0, 1.0, 5.0], dtype=torch.float64) / 8
    m = TABLE.means
    mean = w @ m
    cov = (m - mean).T @ torch.diag(w) @ (m - mean) + (w @ TABLE.stds**2) * torch.eye(2)
    error = (x.double().mean(0) - mean) / (cov.diagonal() / n).sqrt()
    assert error.abs().max() < 4.5  # standard errors
    # The standard error of a (co)variance is below its scale * sqrt(3 / n) = 0.004 of it.
    assert (torch.cov(x.double().T) - cov).abs().max() < 0.02 * cov.diagonal().max()


def test_log_prob_agrees_with_torch_distributions(generator):
    x = 3 * torch.randn(50, 2, generator=generator, dtype=torch.float64)
    reference = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([2.0, 1.0, 5.0], dtype=torch.float64)),
        torch.distributions.Independent(
            torch.distributions.Normal(TABLE.means, TABLE.stds[:, None].expand(3, 2)), 1
        ),
    )
    torch.testing.assert_close(TABLE.log_prob(x), reference.log_prob(x), rtol=1e-12, atol=1e-12)


def test_density_integrates_to_one_in_three_dimensions():
    mixture = Mixture([[0.5, 0.0, -1.0], [1.0, 1.0, 0.0]], [0.5, 0.8], [1.0, 3.0])
    axis = torch.linspace(-6, 7, 66, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis, axis)
    total = mixture.log_prob(grid).exp().sum() * float(axis[1] - axis[0]) ** 3
    assert abs(float(total) - 1.0) < 1e-6
    assert mixture.sample(1).shape == (1, 3)


def test_a_component_of_weight_zero_is_never_drawn(generator):
    mixture = Mixture([[0.0], [100.0]], 1.0, [1.0, 0.0])
    assert mixture.sample(5000, generator=generator).max() < 50
    assert mixture.log_prob(torch.tensor([[0.0]])).isfinite().all()


def test_eight_gaussians_lie_on_their_circle_and_are_equally_full(generator):
    n, radius = 40_000, 5.0
    data = EightGaussians(radius, 0.5)
    x = data.sample(n, generator=generator).double()
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    modes = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    torch.testing.assert_close(data.means, modes)
    distance, mode = torch.cdist(x, modes).min(dim=1)
    assert stats.chisquare(torch.bincount(mode, minlength=8).numpy()).pvalue > 1e-3
    # Modes are 7.6 standard deviations apart: distances follow a Rayleigh law of scale 0.5.
    assert stats.kstest(distance.numpy(), stats.rayleigh(scale=0.5).cdf).pvalue > 1e-3


def test_default_eight_gaussians_have_the_second_moment_of_the_benchmark(generator):
    x = EightGaussians().sample(100_000, generator=generator).double()
    # E|x|^2 = 5^2 + 2, its standard deviation sqrt(4 r^2 + 4) = 10.2: 5 standard errors are 0.16.
    assert abs(float(x.square().sum(1).mean()) - 27.0) < 0.16


def test_the_generator_decides():
    draws = [TABLE.sample(9, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("means", "stds", "weights"),
    [
        ([], 1.0, None),
        ([[]], 1.0, None),
        ([[0.0], [1.0, 2.0]], 1.0, None),
        ([[float("inf")]], 1.0, None),
        ([[0.0]], 0.0, None),
        ([[0.0]], [1.0, 1.0], None),
        ([[0.0]], 1.0, [1.0, 1.0]),
        ([[0.0], [1.0]], 1.0, [-1.0, 2.0]),
        ([[0.0]], 1.0, [0.0]),
    ],
)
def test_bad_tables_are_refused(means, stds, weights):
    with pytest.raises(InputError):
        Mixture(means, stds, weights)


def test_bad_circles_and_points_are_refused():
    with pytest.raises(InputError, match="radius"):
        EightGaussians(radius=0.0)
    with pytest.raises(InputError, match="num_modes"):
        EightGaussians(num_modes=0)
    with pytest.raises(InputError, match=r"\(n, 2\)"):
        TABLE.log_prob(torch.zeros(4, 3))
