"""One time for all rows is embedded once, and changes no result."""

import pytest
import torch

from flowgen.integrators import Euler, integrate
from flowgen.models import MLP, DiT, Guided, LabelConditioner, PredictionField, UNet
from flowgen.paths import AffinePath, Linear, Velocity

NETWORKS = {
    "mlp": lambda n: MLP((1, 4, 4), n, width=8),
    "dit": lambda n: DiT((1, 4, 4), n, patch=2, width=8, depth=2, heads=2),
    "unet": lambda n: UNet((1, 4, 4), n, width=8, multipliers=(1, 2), heads=2),
}


def field_of(name, num_classes):
    torch.manual_seed(0)
    network = NETWORKS[name](num_classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return PredictionField(network, AffinePath(Linear()), Velocity()).double().eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_shared_times_answer_as_times_of_each_row(name, num_classes, generator):
    field = field_of(name, num_classes)
    x = torch.randn(5, 1, 4, 4, generator=generator, dtype=torch.float64)
    cond = None if num_classes is None else {"label": torch.arange(5) % 3}
    t = torch.tensor([0.3], dtype=torch.float64)
    rows = []
    embed = field.network.condition.time.project
    embed.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    shared = field(x, t.expand(5), cond)
    each = field(x, t.repeat(5), cond)
    assert rows == [1, 5]
    assert torch.allclose(shared, each, rtol=0, atol=1e-12)
    if cond is not None:
        guided = Guided(field, 2.0, LabelConditioner(3).null)
        assert torch.allclose(
            guided(x, t.expand(5), cond), guided(x, t.repeat(5), cond), atol=1e-12
        )
        assert rows == [1, 5, 1, 10]


def test_samplers_share_their_times(generator):
    seen = []

    def field(x, t, cond=None):
        seen.append(t)
        return -x

    x = torch.randn(4, 2, generator=generator)
    integrate(Euler(), field, x, torch.tensor([0.0, 0.5, 1.0]))
    assert [t.stride(0) for t in seen] == [0, 0]
    assert [t.tolist() for t in seen] == [[0.0] * 4, [0.5] * 4]
