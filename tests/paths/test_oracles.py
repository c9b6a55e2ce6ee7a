"""The oracles are checked by facts that their formulas do not use."""

import pytest
import torch
from torch.func import grad, jacrev, vmap

from flowgen.core import Coefficients
from oracles import (
    GaussianOracle,
    MixtureOracle,
    bures_map,
    bures_w2_squared,
)

COV_0 = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
COV_1 = torch.tensor([[1.0, -0.3], [-0.3, 0.6]], dtype=torch.float64)
MEAN_0 = torch.tensor([0.4, -1.1], dtype=torch.float64)
MEAN_1 = torch.tensor([-2.0, 0.7], dtype=torch.float64)


def curved(t):
    """Neither variance preserving nor alpha + sigma = 1."""
    return Coefficients(t**2 + 0.1 * t, 1 - t**3, 2 * t + 0.1, -3 * t**2)


def gaussian(**changes):
    return GaussianOracle(MEAN_1, COV_1, MEAN_0, COV_0, schedule=curved, **changes)


def mixture(**changes):
    weights = torch.tensor([0.2, 0.5, 0.3])
    means = torch.tensor([[1.0, 2.0], [-1.5, 0.3], [0.2, -2.0]])
    covs = torch.stack([COV_0 / 4, COV_1 / 3, torch.diag(torch.tensor([0.05, 0.6])).double()])
    return MixtureOracle(weights, means, covs, schedule=curved, **changes)


def states(n=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 1.5 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    t = 0.02 + 0.96 * torch.rand(n, generator=generator, dtype=torch.float64)
    return x, t


@pytest.mark.parametrize("oracle", [gaussian(), mixture()], ids=["gaussian", "mixture"])
def test_velocity_solves_the_continuity_equation(oracle):
    """d/dt log p + div v + v . grad log p = 0, with derivatives by autograd."""
    x, t = states()

    def log_p(x, t):
        return oracle.log_density(x[None], t[None])[0]

    def v(x, t):
        return oracle(x[None], t[None])[0]

    d_log_p = vmap(grad(log_p, argnums=1))(x, t)
    score = vmap(grad(log_p))(x, t)
    divergence = vmap(jacrev(v))(x, t).diagonal(dim1=1, dim2=2).sum(dim=1)
    residual = d_log_p + divergence + (oracle(x, t) * score).sum(dim=1)
    assert residual.abs().max() < 1e-10 * d_log_p.abs().max()
    torch.testing.assert_close(oracle.score(x, t), score, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("oracle", [gaussian(), mixture()], ids=["gaussian", "mixture"])
def test_posterior_means_recombine_to_the_state(oracle):
    x, t = states()
    c = curved(t)
    data, noise = oracle.posterior_means(x, t)
    torch.testing.assert_close(c.alpha[:, None] * data + c.sigma[:, None] * noise, x)
    velocity = c.d_alpha[:, None] * oracle.data_mean(x, t)
    velocity = velocity + c.d_sigma[:, None] * oracle.noise_mean(x, t)
    torch.testing.assert_close(oracle.velocity(x, t), velocity)


def test_posterior_mean_is_the_best_linear_predictor_of_samples():
    """Regression residuals of a Gaussian are uncorrelated with the state (Monte Carlo, 4 s.e.)."""
    oracle, n = gaussian(), 200_000
    pair = oracle.sample(n, generator=torch.Generator().manual_seed(1))
    t = torch.full((n,), 0.6, dtype=torch.float64)
    c = curved(t)
    x_t = c.alpha[:, None] * pair.x_1 + c.sigma[:, None] * pair.x_0
    residual = pair.x_1 - oracle.data_mean(x_t, t)
    bound = 4 * residual.std() * max(1.0, float(x_t.std())) / n**0.5
    assert residual.mean(dim=0).abs().max() < bound
    assert (residual.T @ x_t / n).abs().max() < 2 * bound
    centred = x_t - x_t.mean(dim=0)
    torch.testing.assert_close(centred.T @ centred / n, oracle.cov(t[:1])[0], rtol=0.02, atol=0.02)
    torch.testing.assert_close(x_t.mean(dim=0), oracle.mean(t[:1])[0], rtol=0.02, atol=0.02)


def test_flow_follows_the_velocity_and_composes():
    oracle = gaussian()
    x, t = states()
    s = t.flip(0)
    moved, speed = torch.func.jvp(lambda t: oracle.flow(x, s, t), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(speed, oracle(moved, t), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(oracle.flow(moved, t, s), x, rtol=1e-10, atol=1e-10)


def test_flow_of_no_length_is_no_move_and_two_flows_are_one():
    oracle = gaussian()
    x, s = states()
    r, t = s.flip(0), s.roll(7)
    torch.testing.assert_close(oracle.flow(x, s, s), x, rtol=0, atol=1e-12)
    twice = oracle.flow(oracle.flow(x, s, r), r, t)
    torch.testing.assert_close(twice, oracle.flow(x, s, t), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "t", "velocity", "end", "mean_velocity"),
    [
        (0.5, 0.0, 1.5, 2.25, 1.75),
        (0.3, 0.25, 2.23783783784, 1.86848081016, 2.09130774687),
        (-1.0, 0.5, 4.4, 0.211145618, 2.422291236),
        (2.0, 0.75, 1.84615384615, 2.55470019623, 2.2188007849),
    ],
)
def test_golden_values_of_a_gaussian_on_a_line(x, t, velocity, end, mean_velocity):
    """Data N(2, 0.5^2), by the formulas of one dimension in 40 digits."""
    oracle = GaussianOracle(torch.tensor([2.0]), torch.tensor([[0.25]]))
    here, time = (torch.tensor(value, dtype=torch.float64) for value in ([[x]], [t]))
    moved = oracle.flow(here, time, torch.ones(1).double())
    assert float(oracle(here, time)) == pytest.approx(velocity, abs=1e-10)
    assert float(moved) == pytest.approx(end, abs=1e-10)
    assert float(moved - here) / (1 - t) == pytest.approx(mean_velocity, abs=1e-10)


@pytest.mark.parametrize(
    ("x", "s", "t", "end", "mean_velocity"),
    [
        (0.5, 0.1, 0.6, 1.36641005887, 1.73282011774),
        (-0.7, 0.25, 0.75, 0.788701225963, 2.9774024519),
    ],
)
def test_golden_jumps_of_a_gaussian_on_a_line(x, s, t, end, mean_velocity):
    oracle = GaussianOracle(torch.tensor([2.0]), torch.tensor([[0.25]]))
    here, *times = (torch.tensor(value, dtype=torch.float64) for value in ([[x]], [s], [t]))
    moved = float(oracle.flow(here, *times))
    assert moved == pytest.approx(end, abs=1e-10)
    assert (moved - x) / (t - s) == pytest.approx(mean_velocity, abs=1e-10)


def test_bures_matches_the_known_value_and_maps_the_covariance():
    zero = torch.zeros(2)
    assert bures_w2_squared(zero, COV_0, zero, COV_1) == pytest.approx(0.506374, abs=5e-7)
    matrix = bures_map(COV_0, COV_1)
    torch.testing.assert_close(matrix @ COV_0 @ matrix, COV_1)
    oracle, pair = (
        gaussian(),
        gaussian().sample(100_000, generator=torch.Generator().manual_seed(2)),
    )
    cost = (oracle.optimal_map(pair.x_0) - pair.x_0).square().sum(dim=1).mean()
    assert float(cost) == pytest.approx(oracle.w2_squared(), rel=0.02)


def test_one_component_agrees_with_the_gaussian():
    alone = MixtureOracle(torch.ones(1), MEAN_1[None], COV_1[None], schedule=curved)
    other = GaussianOracle(MEAN_1, COV_1, schedule=curved)
    x, t = states()
    torch.testing.assert_close(alone(x, t), other(x, t))
    torch.testing.assert_close(alone.log_density(x, t), other.log_density(x, t))


def test_labels_choose_a_component_and_the_null_label_chooses_none():
    oracle = mixture()
    x, t = states(8)
    alone = MixtureOracle(torch.ones(1), oracle.means[1:2], oracle.covs[1:2], schedule=curved)
    label = torch.full((8,), 1)
    torch.testing.assert_close(oracle(x, t, {"label": label}), alone(x, t))
    torch.testing.assert_close(oracle(x, t, {"label": label + 2}), oracle(x, t))


def test_mixture_samples_have_the_mixture_moments():
    oracle = mixture(shape=(1, 2, 1))
    pair = oracle.sample(100_000, generator=torch.Generator().manual_seed(3))
    assert pair.x_1.shape == (100_000, 1, 2, 1)
    torch.testing.assert_close(
        pair.x_1.flatten(1).mean(dim=0), oracle.weights @ oracle.means, atol=0.02, rtol=0
    )
    assert pair.cond is not None
    rows = pair.x_1.flatten(1)[pair.cond["label"] == 2]
    torch.testing.assert_close(rows.T.cov(), oracle.covs[2], atol=0.02, rtol=0)


@pytest.mark.parametrize("oracle", [gaussian(), mixture()], ids=["gaussian", "mixture"])
def test_images_dtype_and_bad_shapes(oracle):
    x, t = states(6)
    image = oracle(x.reshape(6, 1, 2, 1).float(), t.float())
    assert image.dtype == torch.float32
    torch.testing.assert_close(image.reshape(6, 2).double(), oracle(x, t), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="2 values per sample"):
        oracle(torch.zeros(6, 3), t)
    with pytest.raises(ValueError, match="t must have shape"):
        oracle(x, t[:5])
