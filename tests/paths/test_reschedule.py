import math
from itertools import product

import pytest
import torch

from flowgen.core import domain_of
from flowgen.paths import (
    EDM,
    VP,
    AffinePath,
    Cosine,
    Linear,
    LinearVP,
    Polynomial,
    Rescheduled,
    Trig,
    error_of_model,
)
from kinetic_data import seeded
from oracles import GaussianOracle, MixtureOracle

CHANGES = [
    pair
    for pair in product(
        [Linear(), Linear(0.07), Trig(), LinearVP(), VP(), Cosine(), Polynomial(2.5), EDM()],
        repeat=2,
    )
    if pair[0] is not pair[1]
]


@pytest.mark.parametrize(("trained", "sampling"), CHANGES, ids=lambda s: type(s).__name__)
def test_equals_the_exact_field_of_the_other_schedule(trained, sampling, mixture_on, states):
    field = Rescheduled(mixture_on(trained), trained, sampling)
    # Ratios that each of them has: EDM begins at 1/80, Linear(0.07) ends at 14.
    r = torch.linspace(0.2, 0.75, 50, dtype=torch.float64)
    exact = mixture_on(sampling)(states, r)
    torch.testing.assert_close(field(states, r), exact, rtol=1e-10, atol=1e-10)
    image = field(states.reshape(50, 1, 2, 2), r)
    torch.testing.assert_close(image.reshape(50, 4), exact, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(field(states[:1], r[:1]), exact[:1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("trained", "sampling"), [(Linear(), Trig()), (Trig(), Linear()), (Linear(), Polynomial(2.5))]
)
def test_exact_at_both_ends(trained, sampling, gaussian_on, states):
    """Where no noise, or no data, is left: the two 0/0 of the usual form."""
    x, r = states[:2, :3], torch.tensor([0.0, 1.0], dtype=torch.float64)
    field = Rescheduled(gaussian_on(trained), trained, sampling)
    torch.testing.assert_close(field(x, r), gaussian_on(sampling)(x, r), rtol=1e-10, atol=1e-10)
    assert field.domain == (0.0, 1.0)
    assert field.initial_scale == 1.0


@pytest.mark.parametrize(("trained", "sampling"), CHANGES, ids=lambda s: type(s).__name__)
def test_finite_on_its_closed_domain(trained, sampling, gaussian_on):
    field = Rescheduled(gaussian_on(trained), trained, sampling)
    low, high = domain_of(field)
    for dtype in (torch.float32, torch.float64):
        r = torch.linspace(low, high, 65, dtype=dtype).clamp(low, high)
        assert field(torch.ones(65, 3, dtype=dtype), r).isfinite().all()


def test_a_trained_schedule_at_rest_is_left_out_of_the_domain(gaussian_on):
    """Polynomial(2.5) has velocity 0 at t = 0, from which no other velocity follows."""
    field = Rescheduled(gaussian_on(Polynomial(2.5)), Polynomial(2.5), Linear())
    assert field.domain == (1e-5, 1.0)
    r = torch.tensor([1e-5], dtype=torch.float64)
    x = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(field(x, r), gaussian_on(Linear())(x, r), rtol=1e-9, atol=1e-9)


def integrate(field, x, low, high, n):
    """Classical Runge-Kutta of order four."""
    h = (high - low) / n
    for i in range(n):
        t = torch.full(x.shape[:1], low + i * h, dtype=x.dtype)
        k_1 = field(x, t)
        k_2 = field(x + h / 2 * k_1, t + h / 2)
        k_3 = field(x + h / 2 * k_2, t + h / 2)
        k_4 = field(x + h * k_3, (t + h).clamp(max=high))
        x = x + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    return x


@pytest.mark.parametrize("sampling", [Trig(), Polynomial(2.0), EDM()])
def test_sampling_gives_the_exact_flow_of_the_new_schedule(sampling, gaussian_on, states):
    field = Rescheduled(gaussian_on(Linear()), Linear(), sampling)
    x = states[:8, :3]
    start, end = torch.zeros(8).double(), torch.ones(8).double()
    expected = gaussian_on(sampling).flow(x, start, end)
    found = integrate(field, x, *field.domain, 100)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_ratios_the_model_never_saw_only_scale_the_state(gaussian_on, states):
    """VP starts at ratio 0.0066; from there down, states are c X_t with t = 0 and |c| known."""
    trained, sampling, x = VP(), Linear(), states[:8, :3]
    field = Rescheduled(gaussian_on(trained), trained, sampling)
    assert field.domain == (0.0, 1.0)
    r = torch.full((8,), 0.003, dtype=torch.float64)
    t, scale = field.match(r)
    assert (t == 0).all()
    length = math.hypot(0.003, 0.997)
    torch.testing.assert_close(scale, torch.full_like(r, length), rtol=1e-10, atol=0)
    log_rate = (0.003 - 0.997) / length**2
    torch.testing.assert_close(field(x, r), log_rate * x, rtol=1e-10, atol=0)
    # The flow from r = 0 and the trained flow from t = 0 meet: X_r = c X_t.
    middle = torch.full((8,), 0.3, dtype=torch.float64)
    found = integrate(field, x, 0.0, 0.3, 200)
    t, scale = field.match(middle)
    expected = scale[:, None] * gaussian_on(trained).flow(x, torch.zeros_like(t), t)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_the_end_of_a_vp_model_is_kept(gaussian_on, states):
    """At r = 1 the state is that of the last time the model knows, not one extrapolated."""
    field = Rescheduled(gaussian_on(VP()), VP(), Linear())
    r = torch.ones(4, dtype=torch.float64)
    t, scale = field.match(r)
    torch.testing.assert_close(t, torch.full_like(t, 1 - 1e-5))
    torch.testing.assert_close(scale, torch.ones_like(t))
    torch.testing.assert_close(field(states[:4, :3], r), states[:4, :3], rtol=1e-10, atol=1e-10)


def test_the_domain_of_the_field_is_respected(gaussian_on, states):
    class Narrow:
        domain = (0.1, 0.9)

        def __init__(self):
            self.seen = []

        def __call__(self, x, t, cond=None):
            self.seen.append(t)
            assert cond is not None
            return cond["scale"][:, None] * x

    inner = Narrow()
    field = Rescheduled(inner, Linear(), Trig())
    r = torch.linspace(0, 1, 50, dtype=torch.float64)
    v = field(states, r, {"scale": torch.full((50,), 2.0)})
    assert v.isfinite().all()
    assert float(torch.cat(inner.seen).min()) == pytest.approx(0.1)
    assert float(torch.cat(inner.seen).max()) == pytest.approx(0.9)


def test_initial_scale_is_the_noise_at_the_start():
    oracle = GaussianOracle(torch.ones(2), torch.eye(2))
    assert Rescheduled(oracle, Linear(), EDM()).initial_scale == pytest.approx(80 / 81)
    # Below the trained range: length 1 of Linear at r = 0 times sigma / length of VP at t = 0.
    assert Rescheduled(oracle, VP(), Linear()).initial_scale == pytest.approx(
        math.sqrt(1 - math.exp(-10.05))
    )


def test_the_same_schedule_changes_nothing(schedule, gaussian_on, states):
    field, exact = Rescheduled(gaussian_on(schedule), schedule, schedule), gaussian_on(schedule)
    low, high = schedule.domain
    t = torch.linspace(low + 1e-4, high - 1e-4, 50, dtype=torch.float64)
    v = exact(states[:, :3], t)
    torch.testing.assert_close(field(states[:, :3], t), v, rtol=1e-8, atol=1e-8)


def test_wrong_shapes_raise(gaussian_on):
    field = Rescheduled(gaussian_on(Linear()), Linear(), Trig())
    with pytest.raises(Exception, match=r"t must have shape|Type-check error"):
        field(torch.zeros(3, 3), torch.zeros(2))


def test_the_kinetic_optimal_path_needs_fewer_steps_and_ends_at_the_same_points():
    """Two narrow Gaussians on a line, a field trained on the linear path, no retraining."""
    means = torch.tensor([[1.0], [-1.0]])
    field = MixtureOracle(torch.ones(2), means, torch.full((2,), 0.1))
    x_1 = field.sample(2000, generator=seeded(1)).x_1
    straight = AffinePath(Linear())
    schedule = error_of_model(
        field, straight, x_1, num_samples=4000, generator=seeded(0)
    ).schedule()
    followed = Rescheduled(field, Linear(), schedule)
    assert followed.domain == (0.0, 1.0)
    assert followed.initial_scale == 1.0
    x_0 = torch.randn(500, 1, generator=seeded(3)).double()
    fine = integrate(field, x_0, 0.0, 1.0, 200)
    torch.testing.assert_close(integrate(followed, x_0, 0.0, 1.0, 400), fine, rtol=0, atol=2e-4)

    def euler(field, n):
        x = x_0
        for i in range(n):
            x = x + field(x, torch.full((500,), i / n).double()) / n
        return float((x - fine).square().mean().sqrt())

    for n in (2, 4, 8, 16):
        assert euler(followed, n) < 0.75 * euler(field, n)
