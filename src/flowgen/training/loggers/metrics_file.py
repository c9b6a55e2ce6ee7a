"""``metrics.csv``: one row for each step that was logged, complete on its own.

Rows are appended in one write each, so that a killed run loses at most the row being written; what
is torn is dropped when the file is opened again. Numbers of one step share a row, whoever logs it.
A new column rewrites the file beside the old one and renames it. Numbers are written so that they
read back as the same float64, and rows end at the step of the checkpoint where a run goes on: the
curve of a resumed run is that of one that was never stopped.
"""

import csv
import errno
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from flowgen.pipeline import atomic
from flowgen.training.loggers.worker import one_line, tell

Row = dict[str, str]


class MetricsFile(Logger):
    """Writes ``<folder>/metrics.csv``; processes other than the first write nothing.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.path = self.folder / "metrics.csv"
        self._columns: list[str] = []
        self._last: Row = {}
        self._start = 0  # of the last row in the file
        self._end = 0  # of what is whole
        self._opened = False
        self._waiting: list[Row] = []
        self._told = False

    @property
    def name(self) -> str:
        """Name of the file."""
        return "metrics.csv"

    @property
    def version(self) -> str:
        """A run folder holds one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Write nothing: the run folder holds the config already."""
        del params

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write numbers of a step, 0 if none is given; a full disk costs a warning, not the run.

        Rows that could not be written are kept and written as soon as there is room again.
        """
        row = {"step": str(step or 0)} | {name: _text(value) for name, value in metrics.items()}
        self._waiting.append(row)
        self._drain()

    @rank_zero_only
    def resume_at(self, step: int) -> None:
        """Drop the rows after ``step``: the run goes on from there, and 0 is a new one."""
        self._waiting = [row for row in self._waiting if int(row["step"]) <= step]
        try:
            self._open()
            if self._last and int(self._last["step"]) > step:
                self._rewrite([row for row in self._rows() if int(row["step"]) <= step])
        except OSError as error:
            self._tell(error)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Try once more to write what could not be written."""
        del status
        if self._waiting:
            self._drain()

    def _drain(self) -> None:
        try:
            self._open()
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.pop(0)
        except OSError as error:
            self._tell(error)
        else:
            self._told = False

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            reason = error.strerror or one_line(error)
            tell(f"{self.path} cannot be written ({reason}): training goes on and rows are kept")

    def _write(self, row: Row) -> None:
        same = row["step"] == self._last.get("step")
        late = bool(self._last) and int(row["step"]) < int(self._last["step"])
        if late or not set(row) <= set(self._columns):
            self._rewrite([*self._rows(), row])
            return
        merged = self._last | row if same else row
        start = self._start if same else self._end
        line = self._line(merged)
        with self.path.open("r+b", buffering=0) as file:
            before = self._line(self._last) if same else b""
            file.seek(start)
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, "No space left on device")
            except OSError:
                # What stood there before needs no new room.
                file.seek(start)
                file.write(before)
                file.truncate()
                raise
            file.truncate()
        self._last, self._start, self._end = merged, start, start + len(line)

    def _open(self) -> None:
        """Learn what the file holds; what is torn, or not a row, is dropped."""
        if self._opened:
            return
        if self.path.is_file():
            lines = self.path.read_text(errors="replace").split("\n")[:-1]
            header, *rows = list(csv.reader(lines)) or [[]]
            if "step" in header:
                self._columns = ["step", *(name for name in header if name != "step")]
            whole = [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]
            self._rewrite([row for row in whole if row.get("step", "").isdecimal()])
        self._opened = True

    def _rows(self) -> list[Row]:
        if not self._last:
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, rows: Iterable[Row]) -> None:
        """Put a whole new file in place of the old one, with one row for each step in order."""
        by_step: dict[int, Row] = {}
        columns = list(self._columns)
        for row in rows:
            step = int(row["step"])
            by_step[step] = by_step.get(step, {}) | {k: v for k, v in row.items() if v}
            columns += [name for name in row if name not in columns]
        ordered = [by_step[step] for step in sorted(by_step)]
        lines = [
            _line(columns),
            *(_line([row.get(name, "") for name in columns]) for row in ordered),
        ]
        with atomic(self.path) as temporary:
            temporary.write_bytes(b"".join(lines))
        self._columns = columns
        self._last = ordered[-1] if ordered else {}
        self._end = sum(len(line) for line in lines)
        self._start = self._end - len(lines[-1])

    def _line(self, row: Row) -> bytes:
        return _line([row.get(name, "") for name in self._columns])


def _line(fields: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()


def _text(value: float) -> str:
    """Return a number so that it reads back as the same float64; whole numbers stay whole."""
    return str(value) if isinstance(value, int) else repr(float(value))
