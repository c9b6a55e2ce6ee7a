"""Small training runs shared by the tests of training."""

import torch

from flowgen.couplings import Independent
from flowgen.objectives import FlowMatching, Uniform
from flowgen.paths import AffinePath, Linear
from flowgen.training import FlowModule, warmup_constant
from small import built


class Rows:
    """Batches of labelled 4x4 images, or of points, always the same."""

    def __init__(self, images: bool, batch: int = 12):
        generator = torch.Generator().manual_seed(0)
        if images:
            x = torch.randint(0, 256, (batch, 1, 4, 4), generator=generator, dtype=torch.uint8)
        else:
            x = torch.randn(batch, 2, generator=generator)
        self.batch = {"x_1": x, "label": torch.arange(batch) % 3}

    def __len__(self):
        return 50

    def __getitem__(self, index):
        return self.batch


def flow(config, coupling=None, **changes):
    path = AffinePath(Linear())
    settings = {
        "optimizer": lambda p: torch.optim.SGD(p, lr=0.1),
        "lr_schedule": warmup_constant,
        "ema_decay": 0.9,
    }
    return FlowModule(
        built(config),
        FlowMatching(path, Uniform()),
        coupling or Independent(),
        **(settings | changes),
    )
