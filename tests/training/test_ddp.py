"""Two processes take the same step as one with the same global batch."""

import math

import pytest
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


def test_two_processes_equal_one(tmp_path):
    alone = trained(tmp_path, None)
    start = flow(vector_config()).state_dict()
    assert any(not torch.allclose(alone[name], start[name]) for name in alone)
    for micro_batch in (None, 3):
        together = trained(tmp_path, micro_batch, strategy="ddp_fork", devices=2)
        for name, value in alone.items():
            assert torch.allclose(value, together[name], atol=1e-6), name


def test_processes_skip_a_step_together(tmp_path):
    """Otherwise one of them would wait for ever, or go on with other weights."""
    steps = {"max_steps": 2}
    together = trained(tmp_path, None, BrokenOnOne, strategy="ddp_fork", devices=2, **steps)
    expected = trained(tmp_path, None, SecondLeftOut, **steps)
    for name, value in expected.items():
        assert torch.allclose(value, together[name], atol=1e-6), name


class Hurt(Share):
    """As :class:`Share`, without end, and a row of the second process is not finite."""

    def __iter__(self):
        while True:
            for batch in super().__iter__():
                if torch.distributed.get_rank() == 1:
                    batch["x_1"][2] = math.nan
                yield batch


def test_the_process_to_blame_tells_and_keeps_its_batch(tmp_path):
    """That of the others is sound, and to repeat it would show nothing."""
    module = flow(vector_config(), micro_batch=3, max_skipped=2, nonfinite=tmp_path / "nonfinite")
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp_fork",
        devices=2,
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    with pytest.raises(Exception, match=r"the data are not finite in 1 rows of the batch \(2\)"):
        trainer.fit(module, DataLoader(Hurt(), batch_size=None))
    kept = torch.load(tmp_path / "nonfinite" / "step_0000000.pt", weights_only=True)
    assert kept["rank"] == 1
    assert kept["number"] == 1
    assert kept["pair"]["x_1"][2].isnan().all()
