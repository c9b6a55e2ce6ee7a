"""One small network of every kind, conditional and not, all parameters moved off zero."""

import pytest
import torch

from flowgen.models import MLP, DiT, LearnedPositions, UNet

NETWORKS = {
    "mlp": lambda classes: MLP((3,), classes, width=16, depth=2),
    "mlp-image": lambda classes: MLP((1, 4, 4), classes, width=16, depth=1),
    "unet": lambda classes: UNet((2, 5, 7), classes, width=8, multipliers=(1, 2), num_blocks=1),
    "dit": lambda classes: DiT((3, 4, 6), classes, patch=2, width=16, depth=2, heads=2),
    "dit-learned": lambda classes: DiT(
        (1, 4, 4), classes, patch=1, width=8, depth=1, heads=2, positions=LearnedPositions
    ),
}


def perturbed(network, scale=0.2):
    """Move every parameter, so that nothing is hidden by a layer that starts at zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(params=list(NETWORKS))
def build(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]


@pytest.fixture
def network(build):
    return perturbed(build(4)).double()


def batch_for(network, b=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(b, *network.shape, generator=generator, dtype=dtype)
    t = torch.rand(b, generator=generator, dtype=dtype)
    label = torch.arange(b) % 5  # 4 is the null label
    return x, t, {"label": label}


@pytest.fixture
def batch(network):
    return batch_for(network)
