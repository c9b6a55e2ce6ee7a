"""Stochastic samplers: moments propagated exactly through Gaussian flows, laws, seeds, refusals."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.integrators import (
    DDIM,
    BumpDiffusion,
    ConstantDiffusion,
    Counted,
    DecreasingDiffusion,
    EDMChurn,
    EDMHeun,
    EDMRho,
    Euler,
    EulerMaruyama,
    Heun,
    LastEuler,
    LastMean,
    LastTweedie,
    Leg,
    LinearDiffusion,
    LongLast,
    Noise,
    Overshoot,
    ReverseDiffusion,
    Sampler,
    Shifted,
    SigmaDiffusion,
    StochasticDDIM,
    StochasticHeun,
    Uniform,
    integrate,
)
from flowgen.integrators.points import Points
from flowgen.integrators.stochastic import renoised
from flowgen.paths import AffinePath, Linear, Trig
from oracles import GaussianOracle, MixtureOracle

DIFFUSIONS = [
    ConstantDiffusion(0.3),
    SigmaDiffusion(0.8),
    LinearDiffusion(0.7),
    ReverseDiffusion(0.9, floor=0.15),
    DecreasingDiffusion(1.0),
    BumpDiffusion(0.6),
]
ALL = [EulerMaruyama(), StochasticHeun(), StochasticDDIM(), EDMChurn(), Overshoot()]
MEAN, STD = 1.5, 0.6


def gaussian(schedule):
    oracle = GaussianOracle(torch.tensor([MEAN]), torch.tensor([[STD**2]]), schedule=schedule)
    oracle.path = AffinePath(schedule)
    return oracle


def mixture():
    weights, means = torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.9]])
    oracle = MixtureOracle(weights, means, torch.tensor([0.3, 0.5]), schedule=Linear())
    oracle.path = AffinePath(Linear())
    return oracle


class Given(Noise):
    """Noise of the test's own choosing."""

    def __init__(self, rows):
        super().__init__(0, range(len(rows)))
        self.rows = torch.tensor(rows, dtype=torch.float64)[:, None]

    def like(self, x):
        return self.rows


def moments_at_end(stepper, field, nodes, final=False):
    """Return mean and variance after all steps, exactly: every step is affine in x and noise."""
    path = field.path.coefficients(nodes[:1])
    mean = float(path.alpha) * MEAN
    var = float(path.alpha) ** 2 * STD**2 + float(path.sigma) ** 2
    x = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    leg = Leg(tuple(nodes.tolist()), len(nodes) - 1, final, Given([0.0, 0.0, 1.0]))
    begun = stepper.begin(field, x, leg)
    for s, t in zip(leg.nodes[:-1], leg.nodes[1:], strict=True):
        shift, moved, noisy = begun.step(field, x, s, t).flatten().tolist()
        factor, noise = moved - shift, noisy - shift
        mean, var = factor * mean + shift, factor**2 * var + noise**2
    return mean, var


def true_moments(field, t):
    c = field.path.coefficients(torch.tensor([t], dtype=torch.float64))
    return float(c.alpha) * MEAN, (float(c.alpha) * STD) ** 2 + float(c.sigma) ** 2


STEPPERS = [
    *[EulerMaruyama(diffusion) for diffusion in DIFFUSIONS],
    StochasticHeun(ConstantDiffusion(0.3)),
    StochasticHeun(ReverseDiffusion(0.9)),
    StochasticDDIM(1.0),
    StochasticDDIM(0.5),
    EDMChurn(3.0, s_min=0.0, s_max=99.0, s_noise=1.0),
    Overshoot(1.0),
    Overshoot(2.5),
]


@pytest.mark.parametrize(
    ("stepper", "schedule"),
    [(stepper, (Linear(), Trig())[i % 2]) for i, stepper in enumerate(STEPPERS)],
    ids=repr,
)
def test_moments_converge_to_those_of_the_path_at_the_weak_order(stepper, schedule):
    field, errors = gaussian(schedule), []
    mean, var = true_moments(field, 0.9)
    for n in (60, 120):
        nodes = 0.1 + 0.8 * Uniform()(n)
        found = moments_at_end(stepper, field, nodes)
        errors.append((abs(found[0] - mean), abs(found[1] - var)))
    for coarse, fine in zip(*errors, strict=True):
        assert fine < 0.02
        if fine > 1e-12:  # Overshoot and DDIM carry the mean of a Gaussian without error
            assert math.log2(coarse / fine) > stepper.order - 0.15
    assert abs(math.log2(errors[0][1] / errors[1][1]) - stepper.order) < 0.15


@pytest.mark.parametrize("last", [LastMean(), LastEuler(), LastTweedie()], ids=repr)
def test_the_whole_range_with_each_last_step(last):
    field = gaussian(Linear())
    stepper = EulerMaruyama(SigmaDiffusion(), last)
    mean, var = moments_at_end(stepper, field, LongLast(0.04)(250), final=True)
    assert mean == pytest.approx(MEAN, abs=0.01)
    assert var == pytest.approx(STD**2, abs=0.02)


def test_last_steps_do_what_they_say():
    field, x = mixture(), torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    t = torch.full((5,), 0.8, dtype=torch.float64)
    v, score, data = field(x, t), field.score(x, t), field.data_mean(x, t)
    points = Points(field.path, x)
    ends = points.at(0.8), points.at(1.0)
    step = 0.2
    torch.testing.assert_close(LastMean()(x, v, 0.3, *ends), x + step * (v + 0.3 * score))
    torch.testing.assert_close(LastEuler()(x, v, 0.3, *ends), x + step * v)
    torch.testing.assert_close(LastTweedie()(x, v, 0.3, *ends), data)


@pytest.mark.parametrize("schedule", [Linear(), Trig()], ids=["linear", "trig"])
def test_diffusions_are_their_formulas(schedule):
    points = Points(AffinePath(schedule), torch.zeros(1, 1, dtype=torch.float64))
    for t in (0.2, 0.7):
        p = points.at(t)
        reverse = p.sigma * (p.sigma * p.d_alpha / p.alpha - p.d_sigma)
        expected = [
            0.3,
            0.8 * p.sigma,
            0.7 * (1 - t),
            0.9 * reverse,
            (math.cos(math.pi * t) + 1) ** 2 / 4,
            0.6 * math.sin(math.pi * t) ** 2,
        ]
        assert [d(p) for d in DIFFUSIONS] == pytest.approx(expected)
    assert math.isfinite(ReverseDiffusion()(points.at(0.0)))


@pytest.mark.parametrize(
    ("stepper", "ode"),
    [
        (EulerMaruyama(SigmaDiffusion(0.0)), Euler()),
        (StochasticHeun(ConstantDiffusion(0.0), LastEuler()), Heun()),
        (StochasticDDIM(0.0), DDIM()),
        (EDMChurn(0.0), EDMHeun()),
        (Overshoot(0.0), Euler()),
    ],
    ids=repr,
)
def test_without_noise_each_is_its_ode_method(stepper, ode):
    field, x = mixture(), torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    grid = Uniform()(6)
    noise = Noise(0, range(5))
    stochastic = stepper.begin(field, x, Leg(tuple(grid.tolist()), 6, final=False, noise=noise))
    for s, t in ((0.0, 1 / 6), (0.5, 2 / 3)):
        torch.testing.assert_close(
            stochastic.step(field, x, s, t), ode.step(field, x, s, t), rtol=0, atol=1e-12
        )
    whole = integrate(stepper, field, x, grid, noise=noise)
    if not isinstance(ode, Heun):  # whose last step is Euler's here
        torch.testing.assert_close(whole, integrate(ode, field, x, grid), rtol=0, atol=1e-12)


def test_renewed_noise_is_exact_in_law():
    points = Points(AffinePath(Trig()), torch.zeros(1, 1, dtype=torch.float64))
    late, early = points.at(0.7), points.at(0.4)
    # x = alpha x_1 + sigma x_0, then r x + c xi: as much data and noise as the earlier point has
    pure = renoised(torch.tensor([[late.sigma]]).double(), late, early, Given([0.0]))
    fresh = renoised(torch.zeros(1, 1).double(), late, early, Given([1.0]))
    data = renoised(torch.tensor([[late.alpha]]).double(), late, early, Given([0.0]))
    assert float(data) == pytest.approx(early.alpha)
    assert float(pure) ** 2 + float(fresh) ** 2 == pytest.approx(early.sigma**2)
    doubled = renoised(torch.zeros(1, 1).double(), late, early, Given([1.0]), 2.0)
    assert float(doubled) == pytest.approx(2 * float(fresh))


@pytest.mark.parametrize(
    "stepper",
    [
        EulerMaruyama(SigmaDiffusion(), LastTweedie()),
        EulerMaruyama(ReverseDiffusion()),
        StochasticHeun(ConstantDiffusion(0.3)),
        StochasticDDIM(),
        EDMChurn(s_noise=1.0),
        Overshoot(),
    ],
    ids=repr,
)
def test_a_mixture_keeps_its_moments(stepper):
    count = 1000
    field = mixture()
    x_0 = torch.randn(count, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grid = EDMRho()(40) if isinstance(stepper, EDMChurn) else LongLast()(80)
    x_1 = integrate(stepper, field, x_0, grid, noise=Noise(5, range(count)))
    # mean 0.06; variance: within 0.4 * 0.09 + 0.6 * 0.25, between 0.24 * 2.1^2
    mean, var = 0.4 * -1.2 + 0.6 * 0.9, 0.4 * 0.09 + 0.6 * 0.25 + 0.24 * 2.1**2
    assert float(x_1.mean()) == pytest.approx(mean, abs=3 * math.sqrt(var / count))
    # 3 standard errors of the variance (kurtosis below 3) and the bias of order h
    assert float(x_1.var()) == pytest.approx(var, abs=3 * var * math.sqrt(2 / count) + 0.02)
    assert float((x_1 > 0).double().mean()) == pytest.approx(0.58, abs=0.05)
    assert not torch.allclose(x_1, integrate(Heun(), field, x_0, grid), atol=0.1)


@pytest.mark.parametrize("stepper", ALL, ids=repr)
def test_samples_depend_on_seed_and_number_alone(stepper):
    field, x = mixture(), torch.randn(5, 1, generator=torch.Generator().manual_seed(1))
    sampler = Sampler(stepper, Uniform(), 6)
    whole = sampler.sample(field, x, noise=Noise(3, range(5)))
    parts = [sampler.sample(field, x[rows], noise=Noise(3, rows)) for rows in ([0, 1], [2], [3, 4])]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    assert torch.equal(sampler.sample(field, x, noise=Noise(3, range(5))), whole)
    other = sampler.sample(field, x, noise=Noise(4, range(5)))
    assert not torch.allclose(other, whole, atol=1e-2)
    assert whole.dtype == torch.float32
    image = integrate(
        stepper,
        _as_images(field),
        x[:4].reshape(4, 1, 1, 1),
        Uniform()(6),
        noise=Noise(3, range(4)),
    )
    torch.testing.assert_close(image.flatten(), whole[:4].flatten(), rtol=0, atol=1e-6)


def _as_images(field):
    def images(x, t, cond=None):
        return field(x.flatten(1), t).reshape(x.shape)

    images.path = field.path
    return images


@pytest.mark.parametrize(
    ("stepper", "nfe"),
    [
        (EulerMaruyama(), 6),
        (StochasticHeun(), 11),
        (StochasticDDIM(), 6),
        (EDMChurn(), 11),
        (Overshoot(), 6),
    ],
    ids=repr,
)
def test_number_of_evaluations_is_exact(stepper, nfe):
    counted = Counted(mixture())
    integrate(stepper, counted, torch.zeros(2, 1), Uniform()(6), noise=Noise(0, range(2)))
    assert counted.nfe == nfe


@pytest.mark.parametrize("stepper", ALL, ids=repr)
def test_what_cannot_be_done_is_refused(stepper):
    field, x, noise = mixture(), torch.zeros(2, 1), Noise(0, range(2))
    with pytest.raises(InputError, match="draws random numbers: pass noise="):
        integrate(stepper, field, x, Uniform()(3))
    with pytest.raises(InputError, match="draws random numbers"):
        stepper.step(field, x, 0.1, 0.2)
    with pytest.raises(InputError, match="runs from source to data only"):
        integrate(stepper, field, x, Uniform()(3).flip(0), noise=noise)
    with pytest.raises(InputError, match="cannot be undone: encode with .* sampler=heun"):
        Sampler(stepper, Uniform(), 3).encode(field, x)
    with pytest.raises(InputError, match="needs a field that carries its affine path"):
        integrate(stepper, lambda x, t, cond=None: x, x, Uniform()(3), noise=noise)
    assert Sampler(stepper, Uniform(), 3).stochastic
    assert not Sampler(Heun(), Uniform(), 3).stochastic


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConstantDiffusion(-1.0), "scale must be finite and >= 0, got -1.0"),
        (lambda: ReverseDiffusion(1.0, 0.0), "floor must be in"),
        (lambda: ReverseDiffusion(math.inf), "scale must be finite"),
        (lambda: StochasticDDIM(1.1), r"eta must be in \[0, 1\], got 1.1"),
        (lambda: EDMChurn(-1.0), "s_churn must be finite and >= 0"),
        (lambda: EDMChurn(s_min=2.0, s_max=1.0), "s_min and s_max must satisfy"),
        (lambda: EDMChurn(s_noise=0.0), "s_noise must be finite and > 0"),
        (lambda: Overshoot(-0.1), "strength must be finite and >= 0"),
        (lambda: LongLast(1.0), r"last must be in \(0, 1\), got 1.0"),
        (lambda: Shifted(2.0, terminal=1.0), r"terminal must be in \(0, 1\), got 1.0"),
    ],
)
def test_bad_numbers_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_stochastic_ddim_draws_the_ancestral_noise_times_eta(eta):
    field = gaussian(Linear())
    leg = Leg((0.4, 0.7), 1, False, Given([0.0, 1.0]))
    begun = StochasticDDIM(eta).begin(field, torch.zeros(2, 1).double(), leg)
    plain, noisy = begun.step(field, torch.zeros(2, 1).double(), 0.4, 0.7).flatten().tolist()
    ratio = 0.4 * 0.3 / (0.7 * 0.6)
    assert noisy - plain == pytest.approx(eta * 0.3 * math.sqrt(1 - ratio**2))
