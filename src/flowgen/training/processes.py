"""What the processes of a data-parallel run tell each other beside gradients, without the device.

Messages go through gloo on the CPU, so that a flag that all must agree on never waits for the
accelerator. A process alone talks to nobody.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor


class Processes:
    """The processes of a run; all must make each call, in the same order.

    Args:
        trainer: Of the run, its processes connected.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.count = trainer.world_size
        self._group: Any = None
        if self.count > 1:
            self._group = torch.distributed.new_group(backend="gloo")

    def largest(self, *values: int) -> list[int]:
        """Return the largest of each value over all processes."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.int64)
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX, group=self._group)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return the value of every process, by rank."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, value, group=self._group)
        return found

    def rows_of_all(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the batches of all processes as one, in the order of a process alone.

        Row ``i`` of process ``r`` of ``w`` becomes row ``i w + r``, as the sampler dealt them.

        Args:
            batch: On the CPU; every process has as many rows.
        """
        if self.count == 1:
            return dict(batch)
        found = {}
        for name, value in sorted(batch.items()):
            rows = [torch.empty_like(value) for _ in range(self.count)]
            torch.distributed.all_gather(rows, value.contiguous(), group=self._group)
            found[name] = torch.stack(rows, dim=1).flatten(0, 1)
        return found

    def from_first(self, value: Any) -> Any:
        """Return the value of the first process."""
        if self.count == 1:
            return value
        found = [value]
        torch.distributed.broadcast_object_list(found, src=0, group=self._group)
        return found[0]
