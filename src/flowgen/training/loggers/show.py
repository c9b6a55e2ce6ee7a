"""What callbacks tell the loggers, without knowing which there are.

A logger shows what it can: one without ``show_picture`` gets no pictures, without ``show_table`` no
tables, and one without ``resume_at`` is not told where a run starts. Numbers reach every logger.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from lightning.fabric.loggers.logger import Logger

Table = Mapping[str, Mapping[str, float | str]]
"""Rows of a table by name; each row maps columns to values, and rows may lack columns."""


@runtime_checkable
class ShowsPictures(Protocol):
    """A logger that can hold a picture."""

    def show_picture(self, name: str, path: Path, step: int) -> None:
        """Take the picture in the file ``path``, made at ``step``."""
        ...


@runtime_checkable
class ShowsTables(Protocol):
    """A logger that can hold a table."""

    def show_table(self, name: str, rows: Table, step: int) -> None:
        """Take a table made at ``step``."""
        ...


@runtime_checkable
class Resumes(Protocol):
    """A logger whose record can go on where a run goes on."""

    def resume_at(self, step: int) -> None:
        """Forget everything after ``step``: the run goes on from there."""
        ...


def show_picture(loggers: Iterable[Logger], name: str, path: Path, step: int) -> None:
    """Show a picture to every logger that can hold one.

    Args:
        loggers: Of the trainer.
        name: Of the series, e.g. ``samples``.
        path: An image file, which must stay where it is until the run ends.
        step: Optimiser step at which it was made.
    """
    for logger in loggers:
        if isinstance(logger, ShowsPictures):
            logger.show_picture(name, path, step)


def show_table(loggers: Iterable[Logger], name: str, rows: Table, step: int) -> None:
    """Show a table to every logger that can hold one.

    Args:
        loggers: Of the trainer.
        name: Of the table, e.g. ``evaluation``.
        rows: ``{row: {column: value}}``.
        step: Optimiser step at which it was made.
    """
    for logger in loggers:
        if isinstance(logger, ShowsTables):
            logger.show_table(name, rows, step)


def log_figures(loggers: Iterable[Logger], figures: Mapping[str, float], step: int) -> None:
    """Log numbers to every logger; those of one step stand in one row of ``metrics.csv``.

    Args:
        loggers: Of the trainer.
        figures: Values by name, e.g. ``{"eval/w2": 0.3}``.
        step: Optimiser step they belong to.
    """
    for logger in loggers:
        logger.log_metrics(dict(figures), step=step)


def resume_at(loggers: Iterable[Logger], step: int) -> None:
    """Tell every logger that can go on that the run starts at ``step``."""
    for logger in loggers:
        if isinstance(logger, Resumes):
            logger.resume_at(step)
