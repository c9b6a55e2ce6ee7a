"""Exponential integrators on exact mixtures and Gaussians: orders, ends, directions, cost."""

import math
from functools import cache

import pytest
import torch
from scipy.integrate import quad

from flowgen.core import InputError
from flowgen.integrators import (
    DDIM,
    RK4,
    Counted,
    DPMSolver2M,
    DPMSolver3M,
    EDMHeun,
    EDMRho,
    Euler,
    Explicit,
    LogSNRUniform,
    Sampler,
    Uniform,
    UniPC,
    integrate,
    trajectory,
)
from flowgen.integrators.exponential import moments
from flowgen.paths import (
    EDM,
    VP,
    AffinePath,
    Cosine,
    FromDiffusersFlow,
    FromTrigFlow,
    Linear,
    LinearVP,
    Polynomial,
    Rescheduled,
    Trig,
)
from oracles import GaussianOracle, MixtureOracle

MULTISTEP = [DDIM(), DPMSolver2M(), DPMSolver3M(), UniPC(1), UniPC(2), UniPC(3), UniPC(2, bh2=True)]
ALL = [*MULTISTEP, EDMHeun()]
SCHEDULES = [Linear(), Trig(), VP(), LinearVP(), Cosine(), EDM(), Polynomial(2.0), Linear(0.05)]


def mixture(schedule=None, shape=(2,)):
    schedule = schedule or Linear()
    oracle = MixtureOracle(
        torch.tensor([0.4, 0.6]),
        torch.tensor([[-1.2, 0.4], [0.9, -0.7]]),
        torch.tensor([0.3, 0.5]),
        schedule=schedule,
        shape=shape,
    )
    oracle.path = AffinePath(schedule)
    return oracle


def gaussian(schedule):
    cov = torch.tensor([[0.5, 0.2], [0.2, 0.3]])
    oracle = GaussianOracle(torch.tensor([1.0, -2.0]), cov, schedule=schedule)
    oracle.path = AffinePath(schedule)
    return oracle


def states(n=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, 2, generator=generator, dtype=dtype)


def even_in_clock(schedule, low, high, n):
    """Return times at equal distances of log(alpha / sigma)."""
    ends = schedule.log_snr(torch.tensor([low, high]).double()) / 2
    return schedule.snr_inverse(torch.linspace(*ends.tolist(), n + 1, dtype=torch.float64).exp())


@cache
def reference(schedule, rising):
    fine = even_in_clock(schedule, 0.3, 0.8, 300)  # of order 4: 3e-12
    return integrate(RK4(), mixture(schedule), states(), fine if rising else fine.flip(0))


@pytest.mark.parametrize("h", [1e-9, 1e-3, 0.3, 0.99, 1.01, 5.0, 40.0])
def test_moments_are_the_integrals(h):
    for k, value in enumerate(moments(h, 5)):
        exact = quad(lambda u, k=k: math.exp(u - h) * u**k, 0, h, epsabs=0, epsrel=1e-12)[0]
        assert value == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("stepper", ALL, ids=repr)
@pytest.mark.parametrize(("schedule", "rising"), [(Linear(), True), (Trig(), False)], ids=str)
def test_observed_order(stepper, schedule, rising):
    field, x, errors = mixture(schedule), states(), []
    exact = reference(schedule, rising)
    # three former means, and a start of order 2, need finer steps to settle
    for n in (128, 256) if repr(stepper).startswith("UniPC(3") else (48, 96):
        grid = even_in_clock(schedule, 0.3, 0.8, n)
        end = integrate(stepper, field, x, grid if rising else grid.flip(0))
        errors.append(float((end - exact).norm()))
    assert abs(math.log2(errors[0] / errors[1]) - stepper.order) < 0.15


@pytest.mark.parametrize("nodes", [Uniform()(13), Explicit([0, 0.03, 0.5, 0.55, 1])(4)], ids=len)
def test_ddim_is_euler_on_the_linear_path(nodes):
    field, x = mixture(), states()
    for grid in (nodes, nodes.flip(0)):
        ddim, euler = (trajectory(stepper, field, x, grid) for stepper in (DDIM(), Euler()))
        torch.testing.assert_close(ddim, euler, rtol=0, atol=1e-12)


def test_ddim_is_not_euler_on_another_path():
    field, x = mixture(Trig()), states()
    ends = [integrate(stepper, field, x, Uniform()(8)) for stepper in (DDIM(), Euler())]
    assert not torch.allclose(*ends, atol=1e-2)


@pytest.mark.parametrize("stepper", [DDIM(), DPMSolver2M(), UniPC(3)], ids=repr)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_a_point_mass_takes_a_single_step_of_any_size(stepper, schedule):
    # one data point: D is constant, so the linear part is all there is
    path, target = AffinePath(schedule), torch.tensor([1.5, -0.7]).double()

    def field(x, t, cond=None):
        c = path.coefficients(t)
        x_0 = (x - c.alpha[:, None] * target) / c.sigma[:, None]
        return c.d_alpha[:, None] * target + c.d_sigma[:, None] * x_0

    field.path = path
    x_0, (low, high) = states(), path.domain
    low, high = max(low, 0.1), min(high, 0.97)
    c = path.coefficients(torch.tensor([low, high]).double())
    start, end = (c.alpha[i] * target + c.sigma[i] * x_0 for i in (0, 1))
    for nodes in ([low, high], [low, 0.3, 0.7, high]):
        found = integrate(stepper, field, start, torch.tensor(nodes).double())
        torch.testing.assert_close(found, end, rtol=0, atol=1e-10)


@pytest.mark.parametrize("stepper", [DDIM(), DPMSolver2M(), UniPC(2), EDMHeun()], ids=repr)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_whole_flow_and_back_on_every_path(stepper, schedule):
    oracle, x_0 = gaussian(schedule), states()
    # equal steps of EDM's own time are steps in a power of the level
    grid = Uniform() if isinstance(schedule, EDM) else LogSNRUniform(0.002, 0.9995)
    sampler = Sampler(stepper, grid, 40)
    low, high = (torch.full((6,), end).double() for end in oracle.domain)
    start = x_0 * AffinePath(schedule).initial_scale
    end = sampler.sample(oracle, start)
    exact = oracle.flow(start, low, high)
    atol = 0.12 if stepper.order == 1 else 0.03
    torch.testing.assert_close(end, exact, rtol=0, atol=atol)
    torch.testing.assert_close(sampler.encode(oracle, exact), start, rtol=0, atol=4 * atol)


@pytest.mark.parametrize("stepper", MULTISTEP, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_multistep_methods_cost_one_evaluation_a_step(stepper, steps):
    counted = Counted(mixture())
    sampler = Sampler(stepper, Uniform(), steps)
    assert bool(sampler.sample(counted, states()).isfinite().all())
    assert counted.nfe == steps
    assert bool(sampler.encode(counted, states()).isfinite().all())
    assert counted.nfe == 2 * steps


def test_edm_heun_saves_one_evaluation_in_the_last_step():
    counted = Counted(mixture())
    sampler = Sampler(EDMHeun(), EDMRho(), 7)
    sampler.sample(counted, states())
    assert counted.nfe == 13
    integrate(EDMHeun(), counted, states(), torch.tensor([0.2, 0.5, 0.9]))
    assert counted.nfe == 13 + 4


def test_edm_heun_is_the_published_algorithm():
    field, x = mixture(Trig()), states()
    path = field.path
    levels = [5.0, 2.0, 0.7, 0.1, 0.0]
    level = torch.tensor(levels, dtype=torch.float64)
    times = path.schedule.time_of(torch.ones_like(level), level)

    def denoise(y, level, t):
        t = t.expand(len(y))
        return field.data_mean(y * path.coefficients(t).alpha[0], t)

    y = x / path.coefficients(times[:1]).alpha
    for i in range(4):
        s, s_next = levels[i], levels[i + 1]
        d = (y - denoise(y, s, times[i])) / s
        y_next = y + (s_next - s) * d
        if s_next > 0:
            d_next = (y_next - denoise(y_next, s_next, times[i + 1])) / s_next
            y_next = y + (s_next - s) * (d + d_next) / 2
        y = y_next
    found = integrate(EDMHeun(), field, x, times)
    torch.testing.assert_close(found, y * path.coefficients(times[-1:]).alpha, rtol=0, atol=1e-10)


@pytest.mark.parametrize("stepper", ALL, ids=repr)
@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)], ids=str)
def test_results_do_not_depend_on_the_batch(stepper, shape):
    field, x = mixture(shape=shape), states(dtype=torch.float32).reshape(6, *shape)
    whole = integrate(stepper, field, x, Uniform()(6))
    parts = [integrate(stepper, field, x[rows], Uniform()(6)) for rows in ([0], [1, 2, 3], [4, 5])]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    assert whole.dtype == torch.float32
    double = integrate(stepper, field, x.double(), Uniform()(6))
    torch.testing.assert_close(whole.double(), double, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stepper", MULTISTEP, ids=repr)
def test_a_step_outside_of_a_trajectory_is_a_ddim_step(stepper):
    field, x = mixture(), states()
    one = stepper.step(field, x, 0.2, 0.5)
    torch.testing.assert_close(one, DDIM().step(field, x, 0.2, 0.5), rtol=0, atol=1e-13)
    ends = torch.tensor([0.2, 0.5], dtype=torch.float64)
    same = stepper.step(field, x, ends[0], ends[1])
    assert torch.equal(one, same)
    assert torch.equal(stepper.step(field, x, 0.5, 0.5), x)


def test_last_steps_are_of_lower_order_at_a_clean_end_only():
    field, x = mixture(), states()
    few = Uniform()(5)
    last = trajectory(UniPC(3), field, x, few)
    free = trajectory(UniPC(3, lower_order_final=False), field, x, few)
    assert torch.equal(last[:3], free[:3])
    assert not torch.allclose(last[4], free[4], atol=1e-5)
    for grid in (few[:5], few.flip(0)[:5]):
        ends = [
            integrate(UniPC(3, lower_order_final=flag), field, x, grid) for flag in (True, False)
        ]
        assert torch.equal(*ends)


def test_adapted_fields_carry_their_path():
    linear = mixture()
    trig = mixture(Trig())
    moved = Rescheduled(linear, Linear(), Trig())
    x = states()
    torch.testing.assert_close(
        integrate(UniPC(2), moved, x, Uniform()(9)),
        integrate(UniPC(2), trig, x, Uniform()(9)),
        rtol=0,
        atol=1e-10,
    )
    foreign = FromDiffusersFlow(lambda x, tau, cond: -linear(x, 1 - tau / 1000, cond))
    torch.testing.assert_close(
        integrate(UniPC(2), foreign, x, Uniform()(9)),
        integrate(UniPC(2), linear, x, Uniform()(9)),
        rtol=0,
        atol=1e-10,
    )
    angles = FromTrigFlow(lambda x, a, c: -2 / math.pi * trig(x, 1 - a * 2 / math.pi, c))
    torch.testing.assert_close(
        integrate(UniPC(2), angles, x, Uniform()(9)),
        integrate(UniPC(2), trig, x, Uniform()(9)),
        rtol=0,
        atol=1e-10,
    )
    assert "path" not in moved.state_dict()


@pytest.mark.parametrize("stepper", ALL, ids=repr)
def test_a_field_without_an_affine_path_is_refused(stepper):
    message = r"needs a field that carries its affine path .* such as sampler=heun$"
    with pytest.raises(InputError, match=message):
        integrate(stepper, lambda x, t, cond=None: x, states(), Uniform()(3))
    with pytest.raises(InputError, match=message):
        stepper.step(lambda x, t, cond=None: x, states(), 0.1, 0.2)


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="solver_order must be 1, 2 or 3, got 4"):
        UniPC(4)
