"""Step by step beside other people's solvers: the same model function on the same grid.

diffusers counts noise levels down (sigma = 1 - t on the linear path) and wants noise minus data, so
its schedulers are given ``-v``. Its grids are float32; here they are replaced by the same numbers
in float64, and nothing else is changed but what a test says. Most of its schedulers keep states in
float32 all the same. Agreement is to 1e-5 or better at every step.
"""

import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from scipy.integrate import RK23, RK45, solve_ivp
from torchdiffeq import odeint

from flowgen.integrators import (
    DDIM,
    AdamsBashforth,
    DPMSolver2M,
    DPMSolver3M,
    EDMHeun,
    Euler,
    Heun,
    Leg,
    Midpoint,
    Noise,
    RK4ThreeEighths,
    RungeKutta,
    Shifted,
    StochasticDDIM,
    Tableau,
    UniPC,
    integrate,
    trajectory,
)
from flowgen.integrators.exponential import moments
from flowgen.paths import AffinePath, Linear, Trig
from oracles import MixtureOracle

NODES = torch.tensor([0.02, 0.1, 0.22, 0.3, 0.47, 0.6, 0.68, 0.85, 0.94, 1.0], dtype=torch.float64)
"""Unequal steps that end at the data."""


def mixture(schedule=None):
    oracle = MixtureOracle(
        torch.tensor([0.4, 0.6]),
        torch.tensor([[-1.2, 0.4], [0.9, -0.7]]),
        torch.tensor([0.3, 0.5]),
        schedule=schedule,
    )
    oracle.path = AffinePath(schedule or Linear())
    return oracle


def states(shape=(4, 2)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def at(field, x, t):
    return field(x, torch.full((len(x),), float(t), dtype=torch.float64))


def close(ours, theirs, atol=1e-5):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def adams_as_theirs():
    """torchdiffeq starts by the 3/8 rule, and its ``max_order`` counts one more than the order."""
    adams = AdamsBashforth(3)
    adams._start = RK4ThreeEighths()
    return adams


@pytest.mark.parametrize(
    ("stepper", "method", "options"),
    [
        (Euler(), "euler", {}),
        (Midpoint(), "midpoint", {}),
        (Heun(), "heun2", {}),
        (RK4ThreeEighths(), "rk4", {}),
        (adams_as_theirs(), "explicit_adams", {"max_order": 4}),
    ],
    ids=["euler", "midpoint", "heun2", "rk4", "explicit_adams"],
)
@pytest.mark.parametrize("rising", [True, False], ids=["forward", "reverse"])
def test_torchdiffeq(stepper, method, options, rising):
    # its Adams-Bashforth has the coefficients of equal steps
    nodes = torch.linspace(0, 1, 11, dtype=torch.float64) if "adams" in method else NODES
    nodes = nodes if rising else nodes.flip(0)
    field, x = mixture(), states()
    theirs = odeint(lambda t, y: at(field, y, t), x, nodes, method=method, options=options)
    close(trajectory(stepper, field, x, nodes), theirs, atol=1e-11)


@pytest.mark.parametrize("method", [RK23, RK45], ids=lambda m: m.__name__)
def test_scipy_takes_the_same_steps_by_its_tableaux(method):
    count = len(method.B)
    table = Tableau(
        tuple(method.C[:count].tolist()),
        tuple(tuple(method.A[i, :i].tolist()) for i in range(count)),
        tuple(method.B.tolist()),
    )
    stepper = type(method.__name__, (RungeKutta,), {"order": method.order, "tableau": table})()
    field, x = mixture(), states()
    for s, t in ((0.1, 0.3), (0.8, 0.5)):
        # tolerances so loose that the first step is the whole range
        found = solve_ivp(
            lambda time, y: at(field, torch.from_numpy(y).reshape(4, 2), time).flatten().numpy(),
            (s, t),
            x.flatten().numpy(),
            method=method,
            first_step=abs(t - s),
            rtol=1e3,
            atol=1e3,
        )
        assert len(found.t) == 2
        close(stepper.step(field, x, s, t), torch.from_numpy(found.y[:, -1]).reshape(4, 2), 1e-12)


def flow_states(scheduler, field, x, times):
    """Return the states of a diffusers loop over flow-matching levels ``1 - times``."""
    scheduler.sigmas = 1 - times
    scheduler.set_begin_index(0)
    found = [x]
    for i in range(len(times) - 1):
        velocity = at(field, found[-1], times[i])
        timestep = scheduler.timesteps[i]
        found.append(scheduler.step(-velocity, timestep, found[-1], return_dict=False)[0])
    return torch.stack(found)


def test_diffusers_flow_match_euler():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=(1 - NODES[:-1]).tolist())
    field, x = mixture(), states()
    theirs = flow_states(scheduler, field, x, NODES).double()
    # it keeps its states in float32
    close(trajectory(Euler(), field, x, NODES), theirs)
    close(trajectory(DDIM(), field, x, NODES), theirs)


def test_diffusers_shift_is_ours():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=[1 - i / 8 for i in range(8)])
    close(1 - Shifted(3.0)(8), scheduler.sigmas.double(), atol=1e-6)


def test_diffusers_shift_terminal_is_ours():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0, shift_terminal=0.1)
    scheduler.set_timesteps(sigmas=[1 - i / 8 for i in range(8)])
    ours = Shifted(2.0, terminal=0.1)(8)
    close(1 - ours, scheduler.sigmas.double(), atol=1e-6)
    assert float(ours[-2]) == pytest.approx(0.9)
    assert Shifted(2.0, terminal=0.1)(1).tolist() == [0.0, 1.0]


def test_diffusers_flow_match_heun():
    scheduler = FlowMatchHeunDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(len(NODES) - 1)
    doubled = [NODES[:1], NODES[1:-1].repeat_interleave(2), NODES[-1:]]
    scheduler.sigmas = 1 - torch.cat(doubled)
    scheduler.set_begin_index(0)
    field, x = mixture(), states()
    # its last step has no second stage, as EDM's: EDMHeun does the same in another variable
    ours = trajectory(Heun(), field, x, NODES[:-1])
    ours = torch.cat([ours, Euler().step(field, ours[-1], 0.94, 1.0)[None]])
    state, found = x, [x]
    for i, t in enumerate(torch.cat([NODES[:1], NODES[1:-1].repeat_interleave(2)])):
        velocity = at(field, state, t)
        state = scheduler.step(-velocity, scheduler.timesteps[i], state, return_dict=False)[0]
        if i % 2 == 1 or i == 2 * len(NODES) - 4:
            found.append(state)
    close(ours, torch.stack(found).double())


def dpm_solver(order, final):
    scheduler = DPMSolverMultistepScheduler(
        solver_order=order,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        lower_order_final=final,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(len(NODES) - 1)
    return scheduler


@pytest.mark.parametrize("final", [True, False])
def test_diffusers_dpm_solver_2m(final):
    field, x = mixture(), states()
    theirs = flow_states(dpm_solver(2, final), field, x, NODES)
    close(trajectory(DPMSolver2M(final), field, x, NODES), theirs, atol=1e-6)


class Published3M(DPMSolver3M):
    """The published third order, as diffusers has it: another start, half a second difference."""

    averaged = True

    def _corrects(self, first):
        return False

    def _weights(self, clocks, start, end):
        weights = super()._weights(clocks, start, end)
        if len(clocks) < 3:
            return weights
        h, before = end - start, [start - clock for clock in clocks[:2]]
        half = moments(h, 3)[2] / 2  # of the divided difference of second order
        divided = [
            1 / (before[0] * (before[0] - before[1])),
            -1 / (before[1] * (before[0] - before[1])),
            1 / (before[0] * before[1]),
        ]
        return [w - half * d for w, d in zip(weights, divided, strict=True)]


def test_diffusers_dpm_solver_3m_but_for_its_second_difference():
    field, x = mixture(), states()
    theirs = flow_states(dpm_solver(3, True), field, x, NODES)
    close(trajectory(Published3M(), field, x, NODES), theirs, atol=1e-6)
    # By design: exact moments, and a first step of order 2. The published weight leaves order 2:
    grids = [1 / (1 + torch.linspace(1, -1, n + 1, dtype=torch.float64).exp()) for n in (32, 64)]
    exact = integrate(RK4ThreeEighths(), field, x, grids[1])
    orders = []
    for stepper in (DPMSolver3M(), Published3M()):
        errors = [float((integrate(stepper, field, x, g) - exact).norm()) for g in grids]
        orders.append(math.log2(errors[0] / errors[1]))
    assert orders[0] == pytest.approx(3, abs=0.2)
    assert orders[1] == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("final", [True, False])
def test_diffusers_unipc(order, final):
    scheduler = UniPCMultistepScheduler(
        solver_order=order,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        lower_order_final=final,
        solver_type="bh2",
    )
    # without its lowering of the order it divides by an infinite step at the data: stop before
    nodes = NODES if final else NODES[:-1]
    scheduler.set_timesteps(sigmas=(1 - nodes[:-1]).numpy())
    field, x = mixture(), states((4, 2))
    theirs = flow_states(scheduler, field, x, nodes)
    ours = trajectory(UniPC(order, lower_order_final=final, bh2=True), field, x, nodes)
    # theirs shows the state before the corrector, which it applies when the next step begins
    close(ours[-1], theirs[-1], atol=1e-6)
    exact = trajectory(UniPC(order, lower_order_final=final), field, x, nodes)
    assert not torch.allclose(exact[-1], ours[-1], atol=1e-6)


def test_diffusers_edm_euler_is_ddim():
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    scheduler.set_timesteps(8)
    field, x = mixture(), states()
    levels = scheduler.sigmas.double()
    times = 1 / (1 + levels)
    ours = trajectory(DDIM(), field, times[0] * 80 * x, times)
    state = 80 * x
    for i, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(state, timestep)
        data = field.data_mean(times[i] * state, times[i].expand(4))
        state = scheduler.step(state, timestep, state, pred_original_sample=data).prev_sample
        # it keeps its states, up to 80 times ours, in float32
        close(ours[i + 1], times[i + 1] * state.double())
    assert not torch.allclose(trajectory(EDMHeun(), field, times[0] * 80 * x, times)[-1], ours[-1])


class One(Noise):
    def __init__(self, given):
        super().__init__(0, range(len(given)))
        self.given = given

    def like(self, x):
        return self.given


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_diffusers_ddim(eta):
    # a variance-preserving path given to it as its table of alpha^2
    steps = 10
    times = 1 - torch.arange(1000, dtype=torch.float64) / 1000
    field = mixture(Trig())
    scheduler = DDIMScheduler(
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="leading",
        set_alpha_to_one=True,
    )
    scheduler.alphas_cumprod = torch.sin(math.pi / 2 * times) ** 2
    scheduler.set_timesteps(steps)
    nodes = times[scheduler.timesteps].tolist()
    assert len(nodes) == steps
    x, draws = states(), torch.Generator().manual_seed(5)
    for s, t in zip(nodes[:-1], nodes[1:], strict=True):
        noise = torch.randn(x.shape, generator=draws, dtype=torch.float64)
        data = field.data_mean(x, torch.full((4,), s, dtype=torch.float64))
        step = scheduler.timesteps[nodes.index(s)]
        theirs = scheduler.step(data, step, x, eta=eta, variance_noise=noise).prev_sample
        leg = Leg((s, t), 1, final=False, noise=One(noise))
        ours = StochasticDDIM(eta).begin(field, x, leg).step(field, x, s, t)
        close(ours, theirs, atol=1e-9)
        if eta == 0:
            close(DDIM().step(field, x, s, t), theirs, atol=1e-9)
        x = theirs
