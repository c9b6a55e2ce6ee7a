"""The end of a run that cannot go on: find what broke, keep the batch, say it in one line.

The file holds what is needed to repeat the batch exactly: the batch as the data gave it, the
weights, the numbers that all randomness follows from. Plain values and tensors only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from flowgen.core import Loss, TrainingFailedError
from flowgen.pipeline import atomic
from flowgen.training.diagnosis import Layers, bins_not_finite, watched, weights_not_finite
from flowgen.training.phases import Phases, WallClock
from flowgen.training.time_bins import TimeBins

if TYPE_CHECKING:
    from flowgen.training.module import FlowModule


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a batch.

    Args:
        loss: Mean loss of each time bin over the finite rows, shape ``(num_bins,)``.
        bins: Time bins with losses that are not finite, as ``0.3-0.4``.
        layers: First layers that are not finite, and the largest values of all.
        weights: Parameters that are not finite already.
    """

    loss: Tensor
    bins: list[str]
    layers: Layers
    weights: list[str]

    @property
    def finite(self) -> bool:
        """Whether nothing was found."""
        clean = self.layers.forward is None and self.layers.backward is None
        return clean and not self.bins and not self.weights

    def line(self) -> str:
        """Return what broke, in a few words."""
        if self.weights:
            return f"the weights of {self.weights[0]} are not finite themselves"
        parts = []
        if self.bins:
            parts.append(f"in the times {', '.join(self.bins)}")
        if self.layers.forward is not None:
            parts.append(f"first in the output of layer {self.layers.forward}")
        elif self.layers.backward is not None:
            parts.append(f"first in the gradient of layer {self.layers.backward}")
        return ", ".join(parts) or "in none of the layers"


def diagnose(module: "FlowModule", batch: Mapping[str, Tensor]) -> Diagnosis:
    """Repeat a batch with every layer watched; gradients are used up, weights stay.

    Args:
        module: At the number of the batch (``batches_seen``).
        batch: On the device of the module.
    """
    field = module.pipeline.field
    means = TimeBins(module.num_bins, module.device)
    bins: list[str] = []
    field.zero_grad()
    with watched(field) as layers, torch.enable_grad():
        for loss, share, _ in module.passes(batch, Phases(WallClock())):
            share.backward()
            detached: Loss = loss.detached()
            means.add(detached)
            bins += bins_not_finite(detached, module.num_bins)
    field.zero_grad()
    return Diagnosis(means.means().cpu(), sorted(set(bins)), layers, weights_not_finite(field))


def fail(module: "FlowModule", batch: Mapping[str, Tensor], folder: Path | None) -> NoReturn:
    """Keep the batch that was just skipped and end the run.

    Raises:
        TrainingFailedError: Naming time bins, layer and file.
    """
    module.batches_seen -= 1  # the batch was counted already
    found = diagnose(module, batch)
    told = (
        f"{module.guard.in_a_row} steps in a row had a loss or gradient that is not finite, "
        f"{found.line()}"
    )
    if folder is not None:
        path = folder / f"step_{module.global_step:07d}.pt"
        if module.trainer.is_global_zero:
            keep(module, batch, path)
        told += f"; look at the batch with: flowgen replay {path}"
    raise TrainingFailedError(told)


def keep(module: "FlowModule", batch: Mapping[str, Tensor], path: Path) -> None:
    """Write what repeats a batch exactly, atomically."""
    content: dict[str, Any] = {
        "flowgen_replay": 1,
        "batch": {name: value.cpu() for name, value in batch.items()},
        "state_dict": {
            name: value.cpu() for name, value in module.pipeline.field.state_dict().items()
        },
        "number": module.batches_seen,
        "rank": module.global_rank,
        "step": module.global_step,
        "precision": str(module.trainer.precision),
    }
    with atomic(path) as temporary:
        torch.save(content, temporary)
