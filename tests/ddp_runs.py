"""Runs of two processes that compute what one computes."""

import math

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from flowgen.core import Loss, Pair, mean_over_dims
from flowgen.couplings import Independent
from runs import flow
from small import vector_config


class Fixed(Independent):
    """Pairs every data point with a source point computed from it, so that no draw matters."""

    def __call__(self, pair, *, generator=None):
        return Pair(pair.x_1.sin(), pair.x_1)


class Halfway(torch.nn.Module):
    """Regress the displacement at time one half: the same on any number of processes."""

    def forward(self, model, pair, *, step=0, generator=None):
        t = torch.full((len(pair),), 0.5)
        x_t = 0.5 * (pair.x_0 + pair.x_1)
        error = model(x_t, t, pair.cond) - (pair.x_1 - pair.x_0)
        return Loss(mean_over_dims(error**2), pair, t)


class Share(torch.utils.data.IterableDataset):
    """The rows of a global batch of 8 that belong to this process."""

    def __iter__(self):
        import torch.distributed as dist

        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        for step in range(3):
            rows = torch.randn(8, 2, generator=torch.Generator().manual_seed(step))
            yield {"x_1": rows[rank::world]}


class BrokenOnOne(Halfway):
    """As :class:`Halfway`, but the loss of the second process is infinite for its second batch.

    The infinity is a constant, so that no gradient carries it to the other process.
    """

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, model, pair, *, step=0, generator=None):
        import torch.distributed as dist

        loss = super().forward(model, pair, step=step, generator=generator)
        self.calls += 1
        broken = dist.is_initialized() and dist.get_rank() == 1 and self.calls == 2
        return Loss(loss.value + (math.inf if broken else 0.0), pair, loss.t)


class SecondLeftOut(Halfway):
    """As :class:`Halfway`, but nothing is learnt from the second batch, on any process."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, model, pair, *, step=0, generator=None):
        loss = super().forward(model, pair, step=step, generator=generator)
        self.calls += 1
        return Loss(loss.value + (math.inf if self.calls == 2 else 0.0), pair, loss.t)


def trained(tmp_path, micro_batch, objective=Halfway, **trainer):
    module = flow(
        vector_config(),
        coupling=Fixed(),
        micro_batch=micro_batch,
        clip=math.inf,
        optimizer=lambda p: torch.optim.SGD(p, lr=1e-3),
    )
    module.objective = objective()
    Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
        **({"max_steps": 3} | trainer),
    ).fit(module, DataLoader(Share(), batch_size=None))
    return {name: value.clone() for name, value in module.state_dict().items()}


class Hurt(Share):
    """As :class:`Share`, without end, and a row of the second process is not finite."""

    def __iter__(self):
        while True:
            for batch in super().__iter__():
                if torch.distributed.get_rank() == 1:
                    batch["x_1"][2] = math.nan
                yield batch


def blamed(folder):
    """Train until the rows of the second process that are not finite stop the run."""
    module = flow(vector_config(), micro_batch=3, max_skipped=2, nonfinite=folder / "nonfinite")
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp_fork",
        devices=2,
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, DataLoader(Hurt(), batch_size=None))
