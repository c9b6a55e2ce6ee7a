"""Flow matching at and off the exact field, in every prediction space, and what it passes on."""

import pytest
import torch

from flowgen.core import InputError, Objective, Pair
from flowgen.objectives import (
    Adaptive,
    Cauchy,
    Constant,
    EDMLogNormal,
    Equivalent,
    FlowMatching,
    Likelihood,
    LogitNormal,
    Stratified,
    Uniform,
)
from flowgen.paths import (
    VP,
    AffinePath,
    Data,
    DiffusersFlow,
    EDMPrediction,
    Linear,
    LinearVP,
    Noise,
    SalimansV,
    Trig,
    Velocity,
)
from oracles import GaussianOracle

SPACES = [Velocity(), Data(), Noise(), SalimansV(), EDMPrediction(0.7), DiffusersFlow()]
SCHEDULES = [Linear(), Trig(), VP()]
COV_0 = torch.tensor([[0.5, 0.1], [0.1, 0.9]]).double()
COV_1 = torch.tensor([[2.0, -0.6], [-0.6, 0.7]]).double()
MEAN_0, MEAN_1 = torch.tensor([0.4, -0.3]).double(), torch.tensor([-1.5, 2.0]).double()


def oracle(schedule):
    return GaussianOracle(MEAN_1, COV_1, MEAN_0, COV_0, schedule=schedule)


class Off:
    """The exact field plus ``theta x``, one theta per row, to read the gradient of each row."""

    def __init__(self, field, n, theta):
        self.field = field
        self.theta = torch.full((n, 1), theta, dtype=torch.float64, requires_grad=True)

    def __call__(self, x, t, cond=None):
        return self.field(x, t) + self.theta * x


def wrong(x, t, cond=None):
    """Some field that is not exact."""
    return torch.tanh(x) + t.reshape(-1, *[1] * (x.ndim - 1)) * x - 0.3


def images(generator, n=5, dtype=torch.float32):
    x = torch.randn(2, n, 3, 4, 2, generator=generator, dtype=dtype)
    return Pair(x[0], 0.6 * x[1] + 0.2)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_loss_of_the_exact_field_is_the_conditional_variance(space, schedule, generator):
    """tr(Cov(y) - Cov(y, x_t) Cov(x_t)^-1 Cov(x_t, y)) / 2 for y = a x_1 + b x_0."""
    field, path, n = oracle(schedule), AffinePath(schedule), 40_000
    # Logit-normal times: near the ends VP's velocity has no variance that 40 000 draws would show.
    objective = FlowMatching(path, LogitNormal(), prediction=space)
    loss = objective(field, field.sample(n, generator=generator), generator=generator)
    c = path.coefficients(loss.t)
    alpha, sigma = c.alpha[:, None, None], c.sigma[:, None, None]
    a, b = (y[:, None, None] for y in space(c))
    cross = a * alpha * COV_1 + b * sigma * COV_0
    explained = cross @ torch.linalg.solve(alpha**2 * COV_1 + sigma**2 * COV_0, cross)
    least = (a**2 * COV_1 + b**2 * COV_0 - explained).diagonal(dim1=1, dim2=2).mean(dim=1)
    # Divided by the expectation of each row, whose scale runs over decades.
    ratio = loss.value / least
    assert float(ratio.mean()) == pytest.approx(1, abs=5 * float(ratio.std()) / n**0.5)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_gradient_vanishes_at_the_exact_field_and_leads_back_to_it(space, schedule, generator):
    """In theta of v + theta x: zero within 5 standard errors at 0, of the sign of theta off it."""
    n = 20_000
    objective = FlowMatching(AffinePath(schedule), LogitNormal(), prediction=space)
    pair = oracle(schedule).sample(n, generator=generator)
    scores = []
    for theta in (-0.3, 0.0, 0.3):
        field = Off(oracle(schedule), n, theta)
        objective(field, pair, generator=generator).value.sum().backward()
        gradient = field.theta.grad
        assert gradient is not None
        scores.append(float(gradient.mean() / gradient.std()) * n**0.5)
    assert scores[0] < -5
    assert abs(scores[1]) < 5
    assert scores[2] > 5


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_weights_carry_a_loss_from_one_space_to_another(space, schedule, generator):
    """Sample by sample, for a field that is wrong: velocity, likelihood and EDM weights."""
    pair = images(generator, n=64, dtype=torch.float64)

    def values(prediction, weighting):
        objective = FlowMatching(
            AffinePath(schedule), LogitNormal(), prediction=prediction, weighting=weighting
        )
        return objective(wrong, pair, generator=torch.Generator().manual_seed(5)).value

    edm = EDMPrediction(0.4)
    for here, there in [
        (values(space, Equivalent(space)), values(Velocity(), None)),
        (values(space, Equivalent(space, edm)), values(edm, None)),
        (values(space, Likelihood(space)), values(Noise(), Likelihood())),
    ]:
        torch.testing.assert_close(here, there, rtol=1e-8, atol=0)


def test_velocity_needs_no_conversion(generator):
    """Bit for bit the mean of (model - (x_1 - x_0))^2 at x_t."""
    pair = images(generator)
    loss = FlowMatching(AffinePath(Linear()))(
        wrong, pair, generator=torch.Generator().manual_seed(1)
    )
    t = Uniform()(5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loss.t, t)
    t = t.reshape(5, 1, 1, 1)
    x_t = t * pair.x_1 + (1 - t) * pair.x_0
    error = wrong(x_t, t.flatten()) - (pair.x_1 - pair.x_0)
    assert torch.equal(loss.value, error.square().flatten(1).mean(dim=1))


def test_parts_act_where_they_are_put(generator):
    """value = weighting(t) * distance(difference), for each part in turn."""
    pair, path = images(generator), AffinePath(Linear())

    def run(**parts):
        objective = FlowMatching(path, LogitNormal(), **parts)
        return objective(wrong, pair, generator=torch.Generator().manual_seed(2))

    plain = run()
    torch.testing.assert_close(run(weighting=Constant(3.0)).value, 3 * plain.value)
    torch.testing.assert_close(
        run(distance=Cauchy(0.5)).value, torch.log1p(plain.value / (2 * 0.25))
    )
    both = run(weighting=Equivalent(Data(), Noise()), distance=Adaptive(0.5, 0.1))
    ratio = ((1 - plain.t) / plain.t) ** -2
    torch.testing.assert_close(both.value, ratio * plain.value / (plain.value + 0.1) ** 0.5)


def test_weights_of_pairs_act_in_the_total_alone(generator):
    weight = torch.tensor([0.0, 2.0, 0.5, 1.5, 1.0])
    pair = images(generator)
    weighted = Pair(pair.x_0, pair.x_1, weight=weight)
    objective = FlowMatching(AffinePath(Linear()))
    plain, loss = (
        objective(wrong, p, generator=torch.Generator().manual_seed(0)) for p in (pair, weighted)
    )
    assert torch.equal(loss.value, plain.value)
    torch.testing.assert_close(loss.total(), (weight * plain.value).mean())
    assert not torch.allclose(loss.total(), plain.total())


def test_same_generator_same_loss_and_step_does_not_matter(generator):
    pair, objective = images(generator), FlowMatching(AffinePath(Trig()), Stratified())
    runs = [
        objective(wrong, pair, step=step, generator=torch.Generator().manual_seed(seed)).value
        for seed, step in ((7, 0), (7, 100), (8, 0))
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_model_is_called_once_with_the_condition_and_the_times(generator):
    calls = []

    def model(x, t, cond=None):
        calls.append((x, t, cond))
        return wrong(x, t)

    pair = images(generator)
    pair = Pair(pair.x_0, pair.x_1, {"label": torch.arange(5)})
    objective = FlowMatching(AffinePath(Linear()), prediction=Data())
    loss = objective(model, pair, generator=generator)
    assert isinstance(objective, Objective)
    ((x, t, cond),) = calls
    assert x.shape == pair.x_1.shape
    assert torch.equal(t, loss.t)
    assert cond is pair.cond
    assert loss.pair is pair


class Narrow:
    def __init__(self, low, high):
        self.domain = (low, high)

    def __call__(self, x, t, cond=None):
        assert float(t.min()) >= self.domain[0]
        assert float(t.max()) <= self.domain[1]
        return wrong(x, t)


def test_times_stay_where_path_and_model_are_both_defined(generator):
    pair = Pair(torch.randn(400, 2, generator=generator), torch.randn(400, 2, generator=generator))
    loss = FlowMatching(AffinePath(LinearVP()))(Narrow(0.25, 1.0), pair, generator=generator)
    assert float(loss.t.min()) == 0.25
    late = FlowMatching(AffinePath(LinearVP()), EDMLogNormal(-30.0))
    loss = late(wrong, pair, generator=generator)
    assert float(loss.t.max()) == pytest.approx(1 - 1e-5, abs=1e-7)
    assert bool(loss.value.isfinite().all())
    with pytest.raises(InputError, match="share no time"):
        late(Narrow(0.6, 0.4), pair)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_one_pair_and_other_types(space, generator):
    objective = FlowMatching(AffinePath(Trig()), prediction=space)
    for dtype, times in [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.float32),
    ]:
        pair = images(generator, n=1)
        pair = Pair(pair.x_0.to(dtype), pair.x_1.to(dtype))
        loss = objective(lambda x, t, cond=None: x * 0.5, pair, generator=generator)
        assert loss.value.shape == (1,)
        assert loss.t.dtype == times
        assert loss.value.dtype == times
        assert bool(loss.total().isfinite())


def test_a_model_that_answers_in_half_precision_is_compared_in_float32(generator):
    pair, objective = images(generator), FlowMatching(AffinePath(Linear()))

    def narrow(x, t, cond=None):
        return wrong(x, t).bfloat16()

    loss, full = (
        objective(m, pair, generator=torch.Generator().manual_seed(0)) for m in (narrow, wrong)
    )
    assert loss.value.dtype == torch.float32
    torch.testing.assert_close(loss.value, full.value, rtol=0.03, atol=0)
