"""What the files of a run folder say, read leniently: a missing or torn file is an absent part."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowgen.report.config_text import ConfigLine, config_lines, setting
from flowgen.report.formats import moment
from flowgen.report.metrics_file import read_metrics
from flowgen.report.series import Series

SIGNS = ("run.json", "config.yaml", "metrics.csv", "checkpoints")
"""What a run folder holds; one of them is enough."""


@dataclass(frozen=True)
class Session:
    """A stretch of training without interruption.

    Args:
        started: When it began, if known.
        from_step: Steps taken before it.
        ended: When it ended; None while it runs, or where it was killed.
        to_step: Steps taken at its end.
        reason: Why it ended.
    """

    started: datetime | None
    from_step: int
    ended: datetime | None = None
    to_step: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Evaluation:
    """Figures of one moment of a run.

    Args:
        step: Of the weights, if known.
        figures: Groups of named values.
        protocol: What must be known to measure them again.
        rows: Of a sweep over samplers and numbers of steps; else empty.
        source: Name of the file.
    """

    step: int | None
    figures: Mapping[str, Mapping[str, Any]]
    protocol: Mapping[str, Any]
    rows: list[Mapping[str, Any]]
    source: str


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Args:
        folder: Where it is.
        about: The content of ``run.json``; empty if there is none.
        config: The lines of ``config.yaml``.
        metrics: Curves of ``metrics.csv`` by column.
        pictures: Sample pictures by step, ascending.
        evaluations: Made during training, by step, ascending.
        final: Made by ``flowgen evaluate`` afterwards, and sweeps.
        bad_batches: Files of batches whose loss or gradient was not finite.
        last_news: When the newest of the files above was written; a run that trains renews the
            time of ``run.json`` as a sign of life.
        last_row: When ``metrics.csv`` was written.
    """

    folder: Path
    about: Mapping[str, Any] = field(default_factory=dict)
    config: list[ConfigLine] = field(default_factory=list)
    metrics: Mapping[str, Series] = field(default_factory=dict)
    pictures: Mapping[int, Path] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)
    final: list[Evaluation] = field(default_factory=list)
    bad_batches: list[Path] = field(default_factory=list)
    last_news: datetime | None = None
    last_row: datetime | None = None

    @property
    def name(self) -> str:
        """Name of the run as its config has it, else of its folder."""
        return setting(self.config, "name") or self.folder.name

    @property
    def step(self) -> int:
        """The newest step that any file speaks of."""
        steps = [s.to_step for s in self.sessions if s.to_step is not None]
        steps += [int(series.steps[-1]) for series in self.metrics.values() if len(series)]
        return max([0, *steps, *self.pictures])

    @property
    def max_steps(self) -> int | None:
        """Steps the run is to take, if known."""
        return whole(self.about.get("max_steps")) or whole(
            setting(self.config, "trainer.max_steps")
        )

    @property
    def sessions(self) -> list[Session]:
        """The stretches of training, in order."""
        found = self.about.get("sessions")
        return [
            Session(
                moment(entry.get("started")),
                whole(entry.get("from_step")) or 0,
                moment(entry.get("ended")),
                whole(entry.get("to_step")),
                str(entry.get("reason") or ""),
            )
            for entry in (found if isinstance(found, list) else [])
            if isinstance(entry, Mapping)
        ]

    @property
    def resumes(self) -> list[int]:
        """Steps at which training was resumed."""
        return sorted({session.from_step for session in self.sessions[1:]})


def is_run(folder: Path) -> bool:
    """Return whether a folder looks like that of a run."""
    return folder.is_dir() and any((folder / sign).exists() for sign in SIGNS)


def read_run(folder: Path) -> Run:
    """Return what is in a run folder, now; parts that cannot be read are absent.

    Args:
        folder: A run folder, perhaps of a run that is still training.
    """
    pictures = _by_step(folder / "samples", ".png")
    made = [
        _evaluation(path, step) for step, path in _by_step(folder / "evaluations", ".json").items()
    ]
    loose = [*sorted(folder.glob("evaluation*.json")), *sorted(folder.glob("sweep*.json"))]
    names = ("run.json", "metrics.csv", "config.yaml")
    files = [*(folder / name for name in names), *pictures.values()]
    return Run(
        folder=folder,
        about=_json(folder / "run.json"),
        config=config_lines(_text(folder / "config.yaml")),
        metrics=read_metrics(folder / "metrics.csv"),
        pictures=pictures,
        evaluations=[evaluation for evaluation in made if evaluation],
        final=[found for path in loose if (found := _evaluation(path, None))],
        bad_batches=list(_by_step(folder / "nonfinite", ".pt").values()),
        last_news=_newest(files),
        last_row=_newest([folder / "metrics.csv"]),
    )


def whole(value: Any) -> int | None:
    """Return a value as a whole number, None if it is none."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(found) if math.isfinite(found) and found == int(found) else None


def _by_step(folder: Path, suffix: str) -> dict[int, Path]:
    """Return the files ``step_<n><suffix>`` of a folder by step."""
    found = {}
    for path in folder.glob(f"step_*{suffix}"):
        number = path.stem.removeprefix("step_")
        if number.isascii() and number.isdigit():
            found[int(number)] = path
    return dict(sorted(found.items()))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, Mapping) else {}


def _evaluation(path: Path, step: int | None) -> Evaluation | None:
    content = _json(path)
    groups = content.get("figures")
    figures = {
        str(group): values
        for group, values in (groups.items() if isinstance(groups, Mapping) else ())
        if isinstance(values, Mapping)
    }
    protocol = content.get("protocol")
    protocol = protocol if isinstance(protocol, Mapping) else {}
    inner = content.get("sweep")
    rows = content.get("rows", inner.get("rows") if isinstance(inner, Mapping) else inner)
    rows = [row for row in (rows if isinstance(rows, list) else []) if isinstance(row, Mapping)]
    if not figures and not rows:
        return None
    told = whole(content.get("step", protocol.get("step")))
    return Evaluation(told if step is None else step, figures, protocol, rows, path.name)


def _newest(files: list[Path]) -> datetime | None:
    times = []
    for path in files:
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(max(times), timezone.utc) if times else None
