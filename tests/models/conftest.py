"""One small network of every kind, conditional and not, all parameters moved off zero."""

import pytest
import torch

from flowgen.models import MLP, DiT, LearnedPositions, SwiGLU, UNet, UNet2D, UViT
from networks import perturbed

NETWORKS = {
    "mlp": lambda classes: MLP((3,), classes, width=16, depth=2),
    "mlp-image": lambda classes: MLP((1, 4, 4), classes, width=16, depth=1),
    "unet": lambda classes: UNet((2, 5, 7), classes, width=8, multipliers=(1, 2), num_blocks=1),
    "dit": lambda classes: DiT((3, 4, 6), classes, patch=2, width=16, depth=2, heads=2),
    "dit-learned": lambda classes: DiT(
        (1, 4, 4), classes, patch=1, width=8, depth=1, heads=2, positions=LearnedPositions
    ),
    "dit-swiglu": lambda classes: DiT(
        (1, 4, 4), classes, width=8, depth=1, heads=2, feed_forward=SwiGLU, qk_norm=False
    ),
    "uvit": lambda classes: UViT((3, 4, 6), classes, patch=2, width=16, depth=3, heads=2),
    "unet2d": lambda classes: UNet2D(
        (2, 4, 8),
        classes,
        channels=(8, 16),
        num_blocks=1,
        attention_levels=(1,),
        head_width=4,
        groups=4,
    ),
}


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
