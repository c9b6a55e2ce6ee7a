"""The processes that ``torchrun`` or SLURM has started for one sampling or one evaluation.

Each does its share, the first one speaks and writes. Messages go through gloo on the CPU.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from flowgen.evaluation import Shards


@dataclass(frozen=True)
class Together:
    """The processes of one command.

    Args:
        shards: Who this process is among them.
    """

    shards: Shards = field(default_factory=Shards)

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes."""
        return self.shards.rank == 0

    def collect(self, value: Any) -> list[Any]:
        """Return the values of all processes by rank in the first one, nothing in the others.

        Args:
            value: Of this process, one that can be pickled; every process calls this.
        """
        if self.shards.count == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.shards.count if self.first else []
        dist.gather_object(value, found if self.first else None, dst=0)
        return found


@contextmanager
def together(cfg: DictConfig) -> Iterator[Together]:
    """Connect the processes of this command; one that was started alone stays alone.

    Args:
        cfg: Whose ``device=auto`` becomes a device of this process's own, where there are several.
    """
    environment = _environment()
    if environment is None or environment.world_size() == 1:
        yield Together()
        return
    import torch
    import torch.distributed as dist

    rank, count = environment.global_rank(), environment.world_size()
    if cfg.device == "auto" and torch.cuda.is_available():
        cfg.device = f"cuda:{environment.local_rank() % torch.cuda.device_count()}"
    os.environ.setdefault("MASTER_ADDR", environment.main_address)
    os.environ.setdefault("MASTER_PORT", str(environment.main_port))
    dist.init_process_group("gloo", rank=rank, world_size=count)

    def gather(value: Any) -> list[Any]:
        found: list[Any] = [None] * count
        dist.all_gather_object(found, value)
        return found

    try:
        yield Together(Shards(rank, count, gather))
    finally:
        dist.destroy_process_group()


def _environment() -> Any:
    """Return what tells the processes apart, None where this one was started alone."""
    if not {"RANK", "SLURM_NTASKS"} & os.environ.keys():
        return None
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            return kind()
    return None
