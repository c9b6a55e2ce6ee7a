"""A logger that cannot hurt: no fault of a logging service stops a run or holds it up for long.

Training puts every call into the queue of a thread and goes on. It waits for the service in two
places only: when it opens, so that its line stands before the progress bar, and when the run ends.
Both waits together are limited by ``patience``. What fails is tried once more in the other way that
the service may know (offline); what fails again is left out with one line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from flowgen.core import InputError
from flowgen.training.loggers.show import Table
from flowgen.training.loggers.worker import Worker

OPENING = 0.5
"""Share of the patience that opening may take."""

LAST_CHANCE = 4.0
"""Seconds kept for the very end, when a hanging service has been cut off and rescued."""


@runtime_checkable
class Service(Protocol):
    """Where numbers go. All but ``cut`` run on one thread, may raise, and should not hang."""

    title: str

    def open(self) -> None:
        """Connect, or create files."""
        ...

    def config(self, config: Mapping[str, Any]) -> None:
        """Take the plain config of the run."""
        ...

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Take the numbers of a step."""
        ...

    def picture(self, name: str, path: Path, step: int) -> None:
        """Take the picture in a file."""
        ...

    def table(self, name: str, rows: Table, step: int) -> None:
        """Take a table."""
        ...

    def resume(self, step: int) -> None:
        """Know that the run goes on after ``step``, where 0 is a new one."""
        ...

    def close(self, status: str) -> None:
        """Write what is left; ``status`` is ``success``, or how the run ended."""
        ...

    def rescue(self, reason: str) -> bool:
        """Return whether calls can go on after a failure, in another way."""
        ...

    def cut(self) -> None:
        """Make a hanging call fail, quickly; called from another thread."""
        ...


class Guarded(Logger):
    """A Lightning logger around a service; processes other than the first log nothing.

    Args:
        service: Where numbers, pictures and tables go.
        folder: The run folder.
        patience: Most seconds that the service may hold up the run, in all.

    Raises:
        InputError: If ``patience`` is not positive.
    """

    def __init__(self, service: Service, folder: str | Path, *, patience: float = 12.0) -> None:
        super().__init__()
        if not patience > 0:
            raise InputError(f"patience must be > 0 seconds, got {patience}")
        self.service = service
        self.folder = Path(folder)
        self.patience = patience
        self._worker: Worker | None = None

    @property
    def name(self) -> str:
        """Name of the service."""
        return self.service.title

    @property
    def version(self) -> str:
        """A run folder holds one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @property
    def failure(self) -> str | None:
        """Why the service was given up, or None."""
        return None if self._worker is None else self._worker.failure

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Log the plain config of the run."""
        config = dict(params)
        self._open().submit(lambda: self.service.config(config))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers at a step, 0 if none is given."""
        values = {name: float(value) for name, value in metrics.items()}
        self._open().submit(lambda: self.service.metrics(values, step or 0))

    @rank_zero_only
    def show_picture(self, name: str, path: Path, step: int) -> None:
        """Log the picture in a file, which must stay where it is."""
        self._open().submit(lambda: self.service.picture(name, path, step))

    @rank_zero_only
    def show_table(self, name: str, rows: Table, step: int) -> None:
        """Log a table."""
        copy = {row: dict(values) for row, values in rows.items()}
        self._open().submit(lambda: self.service.table(name, copy, step))

    @rank_zero_only
    def resume_at(self, step: int) -> None:
        """Say that the run goes on after ``step``, where 0 is a new one."""
        self._open().submit(lambda: self.service.resume(step))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the service, within what is left of the patience."""
        worker = self._worker
        if worker is None:
            return
        if worker.failure is not None:
            self.service.cut()
            return
        worker.submit(lambda: self.service.close(status))
        if not worker.wait(worker.left - min(LAST_CHANCE, worker.left / 2)):
            self.service.cut()
            if not worker.wait(worker.left):
                worker.fail(f"no answer for {self.patience:.0f} s")
                self.service.cut()
        worker.stop()
        if worker.failure is None:
            self._worker = None

    def _open(self) -> Worker:
        if self._worker is None:
            title, rescue = self.service.title, self.service.rescue
            self._worker = Worker(title, rescue, self.patience)
            self._worker.submit(self.service.open)
            self._worker.wait(OPENING * self.patience)
        return self._worker
