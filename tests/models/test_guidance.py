import pytest
import torch

from flowgen.core import InputError, VelocityField, domain_of, expand
from flowgen.models import Guided, LabelConditioner
from oracles import GaussianOracle

NULL = LabelConditioner(1).null
LABELS = {"label": torch.zeros(6, dtype=torch.int64)}


class Counted:
    domain = (0.1, 0.9)

    def __init__(self, field):
        self.field, self.rows = field, []

    def __call__(self, x, t, cond=None):
        self.rows.append(len(x))
        return self.field(x, t, cond)


def two_gaussians(mean):
    """N(mean, I) for label 0, N(0, I) for the null label 1: C7's oracle."""
    eye = torch.eye(len(mean))
    oracles = GaussianOracle(mean, eye), GaussianOracle(torch.zeros(len(mean)), eye)

    def field(x, t, cond=None):
        conditional, null = (oracle(x, t) for oracle in oracles)
        return torch.where(expand(cond["label"].double(), x) == 0, conditional, null)

    return field, oracles


def state(b=6, d=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, d, generator=generator, dtype=torch.float64)
    return x, torch.linspace(0.05, 0.95, b, dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_equal_fields_are_left_alone(scale):
    oracle = GaussianOracle(torch.tensor([1.0, -2.0]), torch.eye(2))
    x, t = state()
    guided = Guided(oracle, scale, NULL)
    torch.testing.assert_close(guided(x, t, LABELS), oracle(x, t), rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [0.0, 0.4, 1.0, 3.0])
def test_guided_gaussians_move_their_mean_and_keep_their_spread(scale):
    """With N(m, I) against N(0, I) the samples are N(scale m, I): x_1 = x_0 + scale m."""
    mean = torch.tensor([1.5, -0.5], dtype=torch.float64)
    field, _ = two_gaussians(mean)
    guided = Guided(field, scale, NULL)
    x_0, _ = state(b=40)
    cond = {"label": torch.zeros(40, dtype=torch.int64)}
    x, steps = x_0, 200
    for step in range(steps):  # the midpoint rule, third-order local error
        t = torch.full((40,), step / steps, dtype=torch.float64)
        middle = x + guided(x, t, cond) / (2 * steps)
        x = x + guided(middle, t + 0.5 / steps, cond) / steps
    torch.testing.assert_close(x, x_0 + scale * mean, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(2,), (2, 1, 1)])
def test_the_formula(shape):
    field, (conditional, null) = two_gaussians(torch.tensor([1.5, -0.5]))
    x, t = state()
    x = x.view(-1, *shape)
    expected = null(x, t) + 2.5 * (conditional(x, t) - null(x, t))
    torch.testing.assert_close(Guided(field, 2.5, NULL)(x, t, LABELS), expected)
    first = Guided(field, 2.5, NULL)(x[:1], t[:1], {"label": LABELS["label"][:1]})
    torch.testing.assert_close(first, expected[:1])


def test_passes_are_counted():
    field, (conditional, null) = two_gaussians(torch.tensor([1.5, -0.5]))
    x, t = state()
    for scale, rows, expected in ((1.0, [6], conditional), (0.0, [6], null), (2.0, [12], None)):
        counted = Counted(field)
        v = Guided(counted, scale, NULL)(x, t, LABELS)
        assert counted.rows == rows
        if expected is not None:
            assert torch.equal(v, expected(x, t))


def test_it_is_a_field_and_keeps_the_domain():
    guided = Guided(Counted(two_gaussians(torch.ones(2))[0]), 2.0, NULL)
    assert isinstance(guided, VelocityField)
    assert domain_of(guided) == (0.1, 0.9)


def test_other_conditions_ride_along():
    def field(x, t, cond=None):
        return cond["label"][:, None] + cond["text"]

    def null(n, device):
        return {**NULL(n, device), "text": torch.zeros(n, 2)}

    x, t = state()
    cond = {**LABELS, "text": torch.full((6, 2), 4.0)}
    # Null: 1 + 0, conditional: 0 + 4.
    torch.testing.assert_close(Guided(field, 3.0, null)(x, t, cond), torch.full((6, 2), 10.0))


def test_bad_input():
    field, _ = two_gaussians(torch.ones(2))
    x, t = state()
    for scale in (-0.5, float("nan"), float("inf")):
        with pytest.raises(InputError, match="scale must be finite and at least 0"):
            Guided(field, scale, NULL)
    for cond in (None, {}):
        with pytest.raises(InputError, match="guidance needs a condition"):
            Guided(field, 2.0, NULL)(x, t, cond)
    with pytest.raises(InputError, match=r"null condition has \['label'\], the given one"):
        Guided(field, 2.0, NULL)(x, t, {**LABELS, "text": x})
