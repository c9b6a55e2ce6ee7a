"""Go on from a checkpoint: a callback that puts a new process where the old one was."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from flowgen.data import Batches
from flowgen.training.processes import Processes
from flowgen.training.state import restore


class Resume(Callback):
    """Restores a run before its first step, on every process from the content of the first.

    Args:
        content: Of a training checkpoint, on the first process; None there leaves a new run as it
            is.
        batches: The endless stream that training will read.
    """

    def __init__(self, content: Mapping[str, Any] | None, batches: Batches) -> None:
        self.content = content
        self.batches = batches

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore, then let go of the content."""
        del pl_module
        content = Processes(trainer).from_first(self.content)
        if content is not None:
            restore(content, trainer, self.batches)
        self.content = None
