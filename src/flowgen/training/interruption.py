"""Leave training on a signal between two steps, with everything learnt so far saved.

The signals are SIGTERM, SIGINT, and SIGUSR1 and SIGUSR2, by which clusters announce that the time
of a job is up. One that comes inside a step waits for the end of the step; one that comes between
steps (while a picture is drawn or an evaluation runs) is obeyed at once. With several processes the
signal may reach one of them only: they agree after each step, so that all leave after the same one.
A second SIGINT ends at once, without saving.
"""

import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from flowgen.training.processes import Processes

_USER = ("SIGUSR1", "SIGUSR2")  # which Windows does not have
ANNOUNCED = tuple(getattr(signal, name) for name in _USER if hasattr(signal, name))
"""Signals that announce the end of a job's time."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, *ANNOUNCED)
"""Signals that ask a run to stop."""


class StopRequested(BaseException):  # noqa: N818 - not an error: somebody asked
    """Training was asked to stop.

    Args:
        signum: The signal that asked.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Interruption(Callback):
    """Raises :class:`StopRequested` out of ``trainer.fit`` when a signal asks to stop.

    It should be the first callback: the others are then not waited for. Lightning puts the earlier
    handlers of the signals back when training has ended.
    """

    def __init__(self) -> None:
        self.received = 0
        self._processes: Processes | None = None
        self._module: LightningModule | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle the signals from here on."""
        self.received = 0
        self._processes = Processes(trainer)
        self._module = pl_module
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._handle)

    def next_due(self, step: int) -> int | None:
        """Be called after any step: a signal between two steps is obeyed at once."""
        del step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Leave if a signal came to any process during the step."""
        del trainer, pl_module, outputs, batch, batch_idx
        assert self._processes is not None
        [received] = self._processes.largest(self.received)
        if received:
            self.received = received
            raise StopRequested(received)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.received:
            if signum == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = signum
        alone = self._processes is not None and self._processes.count == 1
        if alone and not getattr(self._module, "stepping", True):
            raise StopRequested(signum)
