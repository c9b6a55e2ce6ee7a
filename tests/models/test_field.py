import pytest
import torch
from torch import nn

from flowgen.core import Coefficients, InputError, VelocityField, domain_of, expand
from flowgen.models import DiT, PredictionField
from flowgen.paths import (
    AffinePath,
    Data,
    EDMPrediction,
    Linear,
    LinearVP,
    Noise,
    SalimansV,
    Trig,
    Velocity,
)
from oracles import GaussianOracle

PREDICTIONS = [Velocity(), Data(), Noise(), SalimansV(), EDMPrediction(0.7)]
SHAPES = [(3,), (3, 1, 1)]


class OracleNetwork(nn.Module):
    """The exact network: ``E[y | x_t]`` for Gaussian data; undoes the input scaling by hand."""

    def __init__(self, schedule, prediction, shape, data_std=None):
        super().__init__()
        mean = torch.tensor([0.8, -1.3, 0.4])
        cov = torch.tensor([[0.5, 0.2, 0.0], [0.2, 0.9, -0.1], [0.0, -0.1, 1.7]])
        self.oracle = GaussianOracle(mean, cov, schedule=schedule, shape=shape)
        self.schedule, self.prediction, self.data_std = schedule, prediction, data_std
        self.times = []

    def forward(self, x, t, cond=None):
        self.times.append(t)
        c: Coefficients = self.schedule(t)
        if self.data_std is not None:
            x = x * expand((c.alpha**2 * self.data_std**2 + c.sigma**2).sqrt(), x)
        data, noise = self.oracle.posterior_means(x, t)
        a, b = self.prediction(c)
        return expand(a, x) * data + expand(b, x) * noise


@pytest.mark.parametrize("data_std", [None, 0.6])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("schedule", [Linear(), Trig(), LinearVP()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda p: type(p).__name__)
def test_every_prediction_gives_the_velocity_of_the_path(prediction, schedule, shape, data_std):
    network = OracleNetwork(schedule, prediction, shape, data_std)
    field = PredictionField(network, AffinePath(schedule), prediction, data_std=data_std)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, *shape, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.02, 0.98, 6, dtype=torch.float64)
    # 1e-9: conversions divide by sigma or alpha, at least 0.02 here.
    torch.testing.assert_close(field(x, t), network.oracle(x, t), rtol=1e-9, atol=1e-9)
    for wanted, expected in (
        (Data(), network.oracle.data_mean),
        (Noise(), network.oracle.noise_mean),
    ):
        found = field.predict(x, t, None, wanted)
        torch.testing.assert_close(found, expected(x, t), rtol=1e-9, atol=1e-9)
    assert field.predict(x[:1], t[:1], None, prediction).shape == (1, *shape)


def test_a_velocity_network_is_passed_through_exactly():
    torch.manual_seed(0)
    network = nn.Bilinear(3, 1, 3)
    field = PredictionField(Called(network), AffinePath(Trig()), Velocity())
    x, t = torch.randn(4, 3), torch.tensor([0.0, 0.3, 0.6, 1.0])
    assert torch.equal(field(x, t), network(x, t[:, None]))
    assert isinstance(field, VelocityField)
    assert [name for name, _ in field.named_parameters()] == [
        "network.inner.weight",
        "network.inner.bias",
    ]


class Called(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, t, cond=None):
        return self.inner(x, t[:, None])


@pytest.mark.parametrize(
    ("prediction", "schedule", "low", "high"),
    [
        (Velocity(), Linear(), 0.0, 1.0),
        (Data(), Linear(), 0.0, 0.99),
        (Noise(), Linear(), 0.01, 1.0),
        (SalimansV(), Trig(), 0.0, 1.0),
    ],
)
def test_times_are_clamped_to_the_domain(prediction, schedule, low, high):
    network = OracleNetwork(schedule, prediction, (3,))
    field = PredictionField(network, AffinePath(schedule), prediction, t_eps=0.01)
    assert domain_of(field) == (low, high)
    x = torch.randn(2, 3, dtype=torch.float64)
    v = field(x, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert v.isfinite().all()
    assert network.times[0].tolist() == [low, high]
    inside = torch.tensor([low, high], dtype=torch.float64)
    torch.testing.assert_close(v, network.oracle(x, inside), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction", [Velocity(), Noise()])
def test_autocast_returns_float32(prediction):
    torch.manual_seed(0)
    network = DiT((1, 4, 4), patch=2, width=16, depth=1, heads=2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    seen = []
    network.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    field = PredictionField(network, AffinePath(Linear()), prediction)
    x, t = torch.randn(3, 1, 4, 4), torch.tensor([0.1, 0.5, 0.9])
    with torch.autocast("cpu", torch.bfloat16):
        half = field(x, t)
    assert seen == [torch.bfloat16]
    assert half.dtype == torch.float32
    full = field(x, t)
    # Eight bits of mantissa over a few layers, times 1 / alpha = 10 for the noise prediction.
    assert (half - full).abs().max() < 0.1 * full.abs().max()
    assert not torch.equal(half, full)


def test_dtype_of_the_answer_is_that_of_the_state():
    network = OracleNetwork(Linear(), Noise(), (3,), 0.5)
    field = PredictionField(network, AffinePath(Linear()), Noise(), data_std=0.5)
    x, t = torch.randn(2, 3), torch.tensor([0.2, 0.4], dtype=torch.float64)
    assert field(x, t).dtype == torch.float32
    with pytest.raises(InputError, match="x must be float32 or float64"):
        field(x.to(torch.bfloat16), t)
    with pytest.raises(InputError, match="t must have shape"):
        field(x, t[:1])
    with pytest.raises(InputError, match="t must be float32"):
        field(x, t.half())


@pytest.mark.parametrize(
    "arguments", [{"data_std": 0.0}, {"data_std": float("nan")}, {"t_eps": 0.5}]
)
def test_arguments_are_checked(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        PredictionField(nn.Identity(), AffinePath(Linear()), Velocity(), **arguments)
