"""Runs with weights in shards, which compute what one process computes with whole ones."""

import csv
from functools import partial

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, IterableDataset

from ddp_runs import Fixed, Halfway
from flowgen.core import TrainingFailedError
from flowgen.couplings import Independent
from flowgen.data import Batches, EpochSampler
from flowgen.pipeline.checkpoint import read_training_checkpoint
from flowgen.training import Checkpoints, Resume, SampleGrid
from flowgen.training.loggers import MetricsFile
from runs import flow
from small import image_config

TWO = {"strategy": "fsdp2", "devices": 2}


class HalfwayCalled(Halfway):
    """As :class:`Halfway`, and it says that it only calls the model."""

    only_calls = True


class Images(IterableDataset):
    """The rows of global batches of 8 images that belong to this process."""

    def __init__(self, broken=None):
        self.batches = Batches(EpochSampler(8), 8, start=0)
        self.broken = broken

    def __iter__(self):
        import torch.distributed as dist

        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        for number in range(self.batches.start, 100):
            generator = torch.Generator().manual_seed(number)
            x = torch.randint(0, 256, (8, 1, 4, 4), generator=generator, dtype=torch.uint8)
            batch = {"x_1": x, "label": torch.arange(8) % 3}
            if self.broken is not None:
                batch["x_0"] = torch.randn(8, 1, 4, 4, generator=generator)
                batch["x_0"][5, 0, 2] = torch.nan if rank == self.broken else 1.0
            yield {name: value[rank::world] for name, value in batch.items()}


def module(**changes):
    config = image_config(None)
    config["field"]["network"] |= {"depth": 3, "width": 20, "heads": 5, "mlp_ratio": 1.25}
    settings = {
        "coupling": Fixed(),
        "optimizer": lambda p: torch.optim.AdamW(p, lr=3e-3, eps=1e-2, fused=True),
        "clip": 0.3,
        "micro_batch": 3,
    }
    made = flow(config, **(settings | changes))
    made.objective = HalfwayCalled()
    return made


def train(folder, steps, resume=None, made=None, data=None, compiled=False, **trainer):
    made, data = made or module(), data or Images()
    content = None if resume is None else read_training_checkpoint(last(resume))
    compile_by = torch.compile
    if compiled:
        torch.compile = partial(compile_by, backend="aot_eager")
        for block in made.pipeline.field.network.blocks:
            block.compile()
    loop = Trainer(
        **({"accelerator": "cpu", "devices": 1} | trainer),
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[
            Resume(content, data.batches),
            SampleGrid(folder, num_samples=4),
            Checkpoints(folder, every_n_steps=100),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=folder,
    )
    loop.loggers = [MetricsFile(folder)]
    try:
        loop.fit(made, DataLoader(data, batch_size=None))
    finally:
        torch.compile = compile_by


def last(folder):
    return folder / "checkpoints" / "last.ckpt"


def losses(folder):
    with (folder / "metrics.csv").open() as file:
        return [[float(row["loss"]), float(row["grad_norm"])] for row in csv.DictReader(file)]


def two_processes(folder):
    """Train whole, half way, from where one stopped, in half precision, compiled, till failure."""
    train(folder / "whole", 4, **TWO)
    train(folder / "half", 2, **TWO)
    train(folder / "taken_over", 4, resume=folder / "half_alone", **TWO)
    train(folder / "bf16", 2, precision="bf16-mixed", **TWO)
    train(folder / "compiled", 2, compiled=True, **TWO)
    return hurt(folder / "hurt")


def hurt(folder):
    """Train until the rows of the second process that are not finite stop the run: how it ends."""
    made = module(max_skipped=2, nonfinite=folder / "nonfinite", coupling=Independent())
    try:
        train(folder, 4, made=made, data=Images(broken=1), **TWO)
    except TrainingFailedError as error:
        return str(error)
