"""What the processes of a data-parallel run tell each other beside gradients, without the device.

Messages go through gloo on the CPU, so that a flag that all must agree on never waits for the
accelerator. A process alone talks to nobody.
"""

from typing import Any

import torch
from lightning.pytorch import Trainer


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

    def from_first(self, value: Any) -> Any:
        """Return the value of the first process."""
        if self.count == 1:
            return value
        found = [value]
        torch.distributed.broadcast_object_list(found, src=0, group=self._group)
        return found[0]
