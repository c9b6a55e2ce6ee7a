"""TensorBoard through Lightning's logger, with the same names as ``metrics.csv``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from flowgen.core import InputError
from flowgen.training.loggers.show import Table
from flowgen.training.loggers.worker import one_line

FLUSH_SECONDS = 10
"""Most seconds of curves that a killed run loses."""


class TensorBoardService:
    """Event files in ``<run>/tensorboard``.

    Args:
        folder: The run folder.

    Raises:
        InputError: If TensorBoard is not installed.
    """

    title = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        try:
            import tensorboard
        except ImportError as error:
            raise InputError(
                f"needs tensorboard ({one_line(error)}): pip install 'flowgen[tensorboard]'"
            ) from error
        del tensorboard
        self.folder = folder
        self._logger = self._new()

    def open(self) -> None:
        """Create the file."""
        self._logger = self._new()
        _ = self._logger.experiment

    def config(self, config: Mapping[str, Any]) -> None:
        """Log the config as text: a run has one, so there is nothing to compare in a table."""
        import json

        text = "\n".join(f"    {line}" for line in json.dumps(config, indent=2).splitlines())
        self._logger.experiment.add_text("config", text, 0)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""
        for name, value in values.items():
            self._logger.experiment.add_scalar(name, value, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """Log the picture in a file; a file that has gone is no fault of TensorBoard."""
        import numpy as np
        from PIL import Image

        if path.is_file():
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._logger.experiment.add_image(name, pixels, step, dataformats="HWC")

    def table(self, name: str, rows: Table, step: int) -> None:
        """Log a table as text in Markdown."""
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        lines = [["", *columns], ["---"] * (len(columns) + 1)]
        for row, values in rows.items():
            lines.append([row, *(str(values.get(column, "")) for column in columns)])
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        self._logger.experiment.add_text(name, text, step)

    def resume(self, step: int) -> None:
        """Hide what an earlier session logged after ``step``."""
        from tensorboard.compat.proto import event_pb2

        pb: Any = event_pb2  # generated: its names are not known to a type checker
        start = pb.Event(session_log=pb.SessionLog(status=pb.SessionLog.START))
        self._logger.experiment._get_file_writer().add_event(start, step + 1)

    def close(self, status: str) -> None:
        """Write what is left."""
        self._logger.finalize(status)

    def rescue(self, reason: str) -> bool:
        """Return False: event files are the only way."""
        del reason
        return False

    def cut(self) -> None:
        """Do nothing: a disk that hangs cannot be told to stop."""

    def _new(self) -> TensorBoardLogger:
        return TensorBoardLogger(
            self.folder, name="tensorboard", version="", flush_secs=FLUSH_SECONDS
        )
