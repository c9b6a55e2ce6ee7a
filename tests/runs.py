"""Small training runs shared by the tests of training."""

import csv

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


class Counting(Independent):
    """A coupling with a state that decides what it does."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __call__(self, pair, *, generator=None):
        self.count += 1
        return super().__call__(
            type(pair)(pair.x_0 * (1 + 0.01 * self.count), pair.x_1, pair.cond), generator=generator
        )

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def assert_same(one, other, where=""):
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            if key != "python":  # beartype draws from python's own generator
                assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}.{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def losses(folder):
    """The columns that tell no time."""
    timed = ("ms/", "coupling/share", "samples_per_second")
    with (folder / "metrics.csv").open() as file:
        return [
            {k: v for k, v in row.items() if not k.startswith(timed)}
            for row in csv.DictReader(file)
        ]
