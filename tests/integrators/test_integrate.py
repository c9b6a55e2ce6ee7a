import pytest
import torch

from flowgen.core import InputError
from flowgen.integrators import (
    RK4,
    AdamsBashforth,
    Adaptive,
    Counted,
    Euler,
    Explicit,
    Heun,
    Midpoint,
    Ralston,
    RK4ThreeEighths,
    Stepper,
    Uniform,
    integrate,
    trajectory,
)
from oracles import MixtureOracle

RUNGE_KUTTA = [Euler(), Midpoint(), Heun(), Ralston(), RK4(), RK4ThreeEighths()]
MULTISTEP = [AdamsBashforth(2), AdamsBashforth(3), AdamsBashforth(4)]
FIXED = [*RUNGE_KUTTA, *MULTISTEP]


def oracle(shape=(2,)):
    return MixtureOracle(
        torch.tensor([0.3, 0.7]),
        torch.tensor([[2.0, 0.0], [-1.0, 1.0]]),
        torch.tensor([0.8, 0.6]),
        shape=shape,
    )


class Recording:
    """A field that keeps the times it is asked for."""

    domain = (0.0, 1.0)

    def __init__(self, dtype=None):
        self.times = []
        self.dtypes = []
        self.dtype = dtype

    def __call__(self, x, t, cond=None):
        assert t.shape == (len(x),)
        self.times.append(float(t[0]))
        self.dtypes.append((x.dtype, t.dtype))
        return torch.ones_like(x, dtype=self.dtype) / 3


@pytest.mark.parametrize("stepper", [*FIXED, Adaptive()], ids=repr)
def test_steppers_fulfil_the_protocol(stepper):
    assert isinstance(stepper, Stepper)


@pytest.mark.parametrize("stepper", RUNGE_KUTTA, ids=repr)
def test_number_of_evaluations_is_exact(stepper):
    counted = Counted(oracle())
    integrate(stepper, counted, torch.randn(3, 2), Uniform()(7))
    assert counted.nfe == 7 * stepper.evaluations


@pytest.mark.parametrize(("order", "more"), [(2, 0), (3, 2), (4, 6)])
def test_multistep_methods_cost_one_evaluation_a_step_and_their_start(order, more):
    counted = Counted(oracle())
    for steps in (7, 4):
        counted.nfe = 0
        integrate(AdamsBashforth(order), counted, torch.randn(3, 2), Uniform()(steps))
        assert counted.nfe == steps + more


@pytest.mark.parametrize("stepper", FIXED, ids=repr)
def test_fields_are_never_asked_outside_the_grid(stepper):
    nodes = Explicit([0.0, 0.33, 0.87, 1.0])(3)
    assert 0.33 + (0.87 - 0.33) > 0.87  # the rounding that would lead outside
    for grid in (nodes, nodes.flip(0), nodes[1:3]):
        field = Recording()
        integrate(stepper, field, torch.zeros(1, 1, dtype=torch.float64), grid)
        assert min(field.times) >= float(grid.min())
        assert max(field.times) <= float(grid.max())


def test_euler_evaluates_at_exactly_the_nodes():
    nodes = Explicit([0.0, 0.1, 0.3, 1.0])(3)
    field = Recording()
    integrate(Euler(), field, torch.zeros(1, 1, dtype=torch.float64), nodes)
    assert field.times == [0.0, 0.1, 0.3]
    assert nodes.tolist() == [0.0, 0.1, 0.3, 1.0]


@pytest.mark.parametrize(
    ("stepper", "shape"),
    [(RK4(), (2,)), (RK4(), (2, 1, 1)), (Adaptive(rtol=1e-7, atol=1e-7), (1, 2))],
    ids=repr,
)
def test_reverse_inverts_forward(stepper, shape):
    field = oracle(shape)
    x_0 = field.sample(5, generator=torch.Generator().manual_seed(0)).x_0
    grid = Uniform()(64)
    x_1 = integrate(stepper, field, x_0, grid)
    back = integrate(stepper, field, x_1, grid.flip(0))
    assert float((x_1 - x_0).abs().max()) > 0.5
    torch.testing.assert_close(back, x_0, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stepper", [*FIXED, Adaptive(per_sample=True)], ids=repr)
def test_results_do_not_depend_on_the_batch(stepper):
    field = oracle()
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    cond = {"label": torch.tensor([0, 1, 2, 0, 1, 2])}
    whole = integrate(stepper, field, x, Uniform()(5), cond)
    parts = [
        integrate(stepper, field, x[rows], Uniform()(5), {"label": cond["label"][rows]})
        for rows in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    alone = integrate(stepper, field, x, Uniform()(5))
    assert not torch.allclose(alone, whole, atol=1e-2)  # the condition arrives


def test_trajectory_holds_every_state_of_integrate(generator):
    field = oracle()
    x = torch.randn(4, 2, generator=generator)
    grid = Explicit([0.0, 0.2, 0.7, 1.0])(3)
    states = trajectory(Heun(), field, x, grid)
    assert states.shape == (4, 4, 2)
    assert torch.equal(states[0], x)
    for i in (1, 2, 3):
        assert torch.equal(states[i], integrate(Heun(), field, x, grid[: i + 1]))


@pytest.mark.parametrize("stepper", [Euler(), RK4(), Adaptive()], ids=repr)
@pytest.mark.parametrize(
    ("given", "answered", "kept"),
    [
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.float16, torch.float32, torch.float32),
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.float64, torch.float32),
    ],
    ids=str,
)
def test_state_is_accumulated_in_float32_at_least(stepper, given, answered, kept):
    field = Recording(answered)
    x = torch.ones(2, 3, dtype=given)
    end = integrate(stepper, field, x, Uniform()(4))
    assert end.dtype == kept
    assert set(field.dtypes) == {(kept, kept)}
    # 8 bits of bfloat16 in the field, none lost by summing
    torch.testing.assert_close(end.float(), torch.full((2, 3), 4 / 3), rtol=0, atol=2e-3)
    assert stepper.step(field, x, 0.0, 0.5).dtype == kept


def test_many_small_steps_lose_nothing_to_half_precision():
    end = integrate(Euler(), Recording(torch.bfloat16), torch.ones(1, 1), Uniform()(1000))
    third = float(torch.tensor(1 / 3, dtype=torch.bfloat16))
    assert float(end) == pytest.approx(1 + third, abs=1e-4)  # 1000 roundings of float32


@pytest.mark.parametrize("stepper", [*FIXED, Adaptive()], ids=repr)
def test_works_in_inference_mode(stepper, generator):
    field = oracle()
    x = torch.randn(4, 2, generator=generator)
    with torch.inference_mode():
        inside = integrate(stepper, field, x, Uniform()(4))
    torch.testing.assert_close(inside.clone(), integrate(stepper, field, x, Uniform()(4)))


@pytest.mark.parametrize("stepper", [*FIXED, Adaptive()], ids=repr)
def test_gradients_flow_through_a_step(stepper):
    x = torch.tensor([[0.3, -0.4]], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def field(x, t, cond=None):
        return scale * x

    stepper.step(field, x, 0.0, 1e-3).sum().backward()
    # x_t = x e^{scale h}: derivatives by x and scale, up to the smallest order's h^2
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 + 0.7e-3), rtol=0, atol=1e-6)
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(-0.1e-3, abs=1e-6)


@pytest.mark.parametrize("stepper", [*FIXED, Adaptive()], ids=repr)
def test_ends_of_a_step_may_be_tensors(stepper, generator):
    field = oracle()
    x = torch.randn(3, 2, generator=generator)
    s, t = torch.tensor(0.25, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(stepper.step(field, x, s, t), stepper.step(field, x, 0.25, 0.5))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([0.5], "at least 2 nodes"),
        ([], "at least 2 nodes"),
        ([0.0, 0.5, 0.5, 1.0], "strictly monotone, got 0.5, 0.5 at nodes 1, 2"),
        ([0.0, 0.6, 0.5, 1.0], "strictly monotone"),
        ([1.0, 0.5, 0.6], "strictly monotone"),
        ([0.3, 0.3], "strictly monotone"),
        ([0.0, 1.01], r"lie in \[0, 1\], got 1.01"),
        ([-0.1, 1.0], r"lie in \[0, 1\], got -0.1"),
        ([0.0, float("nan"), 1.0], "got nan"),
        ([0.0, float("inf")], "got inf"),
    ],
)
def test_bad_grids_are_refused(nodes, message):
    grid = torch.tensor(nodes, dtype=torch.float64)
    with pytest.raises(InputError, match=message):
        integrate(Euler(), oracle(), torch.zeros(1, 2), grid)
    with pytest.raises(InputError, match=message):
        trajectory(Euler(), oracle(), torch.zeros(1, 2), grid)


def test_bad_states_and_fields_are_refused():
    with pytest.raises(InputError, match="batch and a sample axis"):
        integrate(Euler(), oracle(), torch.zeros(3), Uniform()(2))
    with pytest.raises(InputError, match=r"shape of x \(1, 2\), got \(1, 1\)"):
        integrate(Euler(), lambda x, t, cond=None: x[:, :1], torch.zeros(1, 2), Uniform()(2))


def test_counted_forwards_values_domain_and_condition(generator):
    field = oracle()
    field.domain = (0.0, 0.9)
    counted = Counted(field)
    x, t = torch.randn(3, 2, generator=generator), torch.full((3,), 0.4)
    cond = {"label": torch.tensor([0, 1, 1])}
    assert torch.equal(counted(x, t, cond), field(x, t, cond))
    assert counted.nfe == 1
    assert counted.domain == (0.0, 0.9)
    assert Counted(lambda x, t, cond=None: x).domain == (0.0, 1.0)
