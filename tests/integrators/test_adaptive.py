import pytest
import torch
from torchdiffeq._impl.odeint import SOLVERS
from torchdiffeq._impl.rk_common import RKAdaptiveStepsizeODESolver

from flowgen.core import InputError
from flowgen.integrators import ADAPTIVE_METHODS, RK4, Adaptive, Counted, Uniform, integrate
from oracles import GaussianOracle, MixtureOracle

ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)


def gaussian(shape=(2,)):
    cov = torch.tensor([[2.0, 0.5], [0.5, 0.7]]).double()
    return GaussianOracle(torch.tensor([1.0, -2.0]), cov, shape=shape)


def mixture():
    return MixtureOracle(
        torch.tensor([0.3, 0.7]), torch.tensor([[2.0, 0.0], [-1.0, 1.0]]), torch.tensor([0.8, 0.6])
    )


def test_methods_are_those_of_torchdiffeq():
    known = {
        name: solver.order
        for name, solver in SOLVERS.items()
        if issubclass(solver, RKAdaptiveStepsizeODESolver)
    }
    assert dict(ADAPTIVE_METHODS) == known


@pytest.mark.parametrize("method", ADAPTIVE_METHODS)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_exact_to_tolerance(method, reverse):
    oracle = gaussian((1, 2, 1) if reverse else (2,))
    x = oracle.sample(8, generator=torch.Generator().manual_seed(0)).x_0
    grid = ENDS.flip(0) if reverse else ENDS
    stepper = Adaptive(method, rtol=1e-5, atol=1e-5)
    end = integrate(stepper, oracle, x, grid)
    exact = oracle.flow(x, grid[:1].expand(8), grid[1:].expand(8))
    # the tolerance bounds the local error of a step; their sum stays within 100 of it here
    torch.testing.assert_close(end, exact, rtol=0, atol=1e-3)
    assert stepper.order == ADAPTIVE_METHODS[method]


@pytest.mark.parametrize("method", ["dopri5", "dopri8"])
def test_agrees_with_fine_rk4(method):
    x = mixture().sample(8, generator=torch.Generator().manual_seed(0)).x_0
    fine = integrate(RK4(), mixture(), x, Uniform()(100))
    end = integrate(Adaptive(method, rtol=1e-8, atol=1e-8), mixture(), x, ENDS)
    torch.testing.assert_close(end, fine, rtol=0, atol=1e-6)


def test_flow_of_a_gaussian_has_its_closed_form_to_nine_digits():
    x = gaussian().sample(8, generator=torch.Generator().manual_seed(0)).x_0
    nodes = torch.tensor([0.1, 0.8], dtype=torch.float64)
    end = integrate(Adaptive("dopri8", rtol=1e-12, atol=1e-12), gaussian(), x, nodes)
    exact = gaussian().flow(x, *(node.expand(8) for node in nodes))
    torch.testing.assert_close(end, exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("x", "velocity", "jumps"),
    [
        (-0.8, -2.00776810547, (-1.83731822435, -1.87760833448, -1.38906771046)),
        (0.5, 1.68298736431, (1.58941354094, 1.24131703928, 1.10380081504)),
    ],
)
def test_flow_of_a_mixture_on_a_line_keeps_its_quantiles(x, velocity, jumps):
    """``F_t(X) = F_s(x)``: flows of one dimension are monotone. The ends in digits as well."""
    numbers = ([0.3, 0.7], [-2.0, 1.5], [0.3, 0.6])
    weights, means, stds = (torch.tensor(row, dtype=torch.float64) for row in numbers)
    oracle = MixtureOracle(weights, means[:, None], stds)

    def share(x, t):
        spread = torch.hypot(1 - t, t * stds)
        return float((weights * torch.distributions.Normal(t * means, spread).cdf(x)).sum())

    half, start = (torch.tensor(value, dtype=torch.float64) for value in ([0.5], [[x]]))
    assert float(oracle(start, half)) == pytest.approx(velocity, abs=1e-10)
    stepper = Adaptive("dopri8", rtol=1e-12, atol=1e-12)
    for nodes, end in zip(([0.0, 1.0], [0.5, 1.0], [0.2, 0.7]), jumps, strict=True):
        s, t = times = torch.tensor(nodes, dtype=torch.float64)
        found = integrate(stepper, oracle, start, times)
        assert share(found, t) == pytest.approx(share(start, s), abs=1e-9)
        assert float(found) == pytest.approx(end, abs=1e-9)


def test_tighter_tolerance_costs_more_and_errs_less():
    x = gaussian().sample(8, generator=torch.Generator().manual_seed(0)).x_0
    exact = gaussian().flow(x, ENDS[:1].expand(8), ENDS[1:].expand(8))
    costs, errors = [], []
    for tolerance in (1e-3, 1e-4, 1e-6):
        counted = Counted(gaussian())
        end = integrate(Adaptive(rtol=tolerance, atol=tolerance), counted, x, ENDS)
        costs.append(counted.nfe)
        errors.append(float((end - exact).abs().max()))
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("method", ADAPTIVE_METHODS)
@pytest.mark.parametrize("ends", [(0.0, 0.8), (0.8, 0.1)], ids=str)
def test_field_is_never_asked_outside_the_step(method, ends):
    # torchdiffeq alone steps past the end and interpolates back: a trap at the end of a domain
    times = []

    def field(x, t, cond=None):
        assert t.shape == (len(x),)
        times.extend(t.tolist())
        return 1e-3 * x

    x = torch.ones(2, 3, dtype=torch.float64)
    Adaptive(method).step(field, x, *ends)
    assert min(times) >= min(ends)
    assert max(times) <= max(ends)


def test_rows_are_coupled_unless_solved_alone():
    x = mixture().sample(6, generator=torch.Generator().manual_seed(0)).x_0
    cond = {"label": torch.tensor([0, 1, 2, 0, 1, 2])}

    def split(stepper):
        whole = integrate(stepper, mixture(), x, ENDS, cond)
        first = integrate(stepper, mixture(), x[:2], ENDS, {"label": cond["label"][:2]})
        return whole[:2], first

    together, apart = split(Adaptive(rtol=1e-3, atol=1e-3))
    assert not torch.equal(together, apart)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-2)
    together, apart = split(Adaptive(rtol=1e-3, atol=1e-3, per_sample=True))
    assert torch.equal(together, apart)


@pytest.mark.parametrize("per_sample", [False, True])
def test_empty_condition_and_single_row(per_sample):
    x = torch.randn(1, 2, generator=torch.Generator().manual_seed(0)).double()
    stepper = Adaptive(per_sample=per_sample)
    assert torch.equal(
        integrate(stepper, mixture(), x, ENDS, {}), integrate(stepper, mixture(), x, ENDS)
    )


@pytest.mark.parametrize("method", ["rk4", "euler", "scipy_solver", "dopri", ""])
def test_other_methods_are_refused(method):
    with pytest.raises(InputError, match="must be one of dopri5, dopri8"):
        Adaptive(method)


def test_bad_numbers_are_refused():
    with pytest.raises(InputError, match="rtol must be finite and > 0, got 0"):
        Adaptive(rtol=0.0)
    with pytest.raises(InputError, match="atol must be finite and > 0, got -1"):
        Adaptive(atol=-1.0)
    with pytest.raises(InputError, match="atol must be finite and > 0, got nan"):
        Adaptive(atol=float("nan"))
    with pytest.raises(InputError, match="max_num_steps must be >= 1, got 0"):
        Adaptive(max_num_steps=0)


def test_failures_name_method_tolerance_and_time():
    def broken(x, t, cond=None):
        return x / (t[:, None] < 0.5)

    with pytest.raises(InputError, match=r"dopri5 with rtol=1e-05.*between t=0 and t=1") as error:
        integrate(Adaptive(), broken, torch.ones(1, 1), ENDS)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="max_num_steps exceeded"):
        integrate(Adaptive(max_num_steps=1), gaussian(), torch.ones(1, 2), ENDS)


def test_repr_says_all_settings():
    text = "Adaptive(method='bosh3', rtol=0.001, atol=1e-05, max_num_steps=7, per_sample=True)"
    assert repr(Adaptive("bosh3", 1e-3, 1e-5, 7, True)) == text
