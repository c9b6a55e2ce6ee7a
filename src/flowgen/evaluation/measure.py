"""Measures: what is asked of one, and all of them taken in one pass over the samples.

Samples stream: each chunk is drawn once, shown to every measure and let go. A measure keeps what it
needs of them, e.g. a mean and a covariance. Where several processes share an evaluation, each shows
its measures its own samples, and a measure puts its parts together by ``setting.shards.gather``.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from flowgen.core import InputError
from flowgen.evaluation.setting import Drawn, Setting

Figures = dict[str, Any]
"""Named values: floats are measured, a name ending in ``_floor`` is what real data reach; other
values say what the floats rest on."""


@runtime_checkable
class Running(Protocol):
    """A measure at work on one pipeline."""

    def update(self, drawn: Drawn) -> None:
        """Take in samples."""
        ...

    def figures(self) -> Figures:
        """Return what was measured, the same in every process."""
        ...


@runtime_checkable
class Measure(Protocol):
    """Something that can be measured of a pipeline.

    Attributes:
        name: Title of its figures.
        needs_samples: Whether it looks at the samples; others look at the pipeline alone.
    """

    name: str
    needs_samples: bool

    def unfit(self, setting: Setting) -> str:
        """Return why it cannot be measured here, empty if it can."""
        ...

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work, before any samples."""
        ...


class Once:
    """For measures that look at the pipeline alone: nothing to take in."""

    def update(self, drawn: Drawn) -> None:
        """Take no notice."""
        del drawn


def fitting(measures: Sequence[Measure], setting: Setting) -> list[Measure]:
    """Return the measures that fit data and model.

    Raises:
        InputError: If none does.
    """
    reasons = {measure.name: measure.unfit(setting) for measure in measures}
    found = [measure for measure in measures if not reasons[measure.name]]
    if not found:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "none given"
        raise InputError(f"no measure fits ({told})")
    return found


def measured(measures: Sequence[Measure], setting: Setting) -> dict[str, Figures]:
    """Return the figures of every measure by its name, from one pass over the samples.

    Args:
        measures: All must fit.
        setting: What is measured.
    """
    return timed(measures, setting)[0]


def timed(measures: Sequence[Measure], setting: Setting) -> tuple[dict[str, Figures], float]:
    """Return what :func:`measured` does, and the seconds that drawing the samples took."""
    running = {measure.name: measure.begin(setting) for measure in measures}
    looking = [running[measure.name] for measure in measures if measure.needs_samples]
    seconds = 0.0
    if looking:
        drawing = setting.draw()
        while True:
            start = time.perf_counter()
            drawn = next(drawing, None)  # on the CPU: nothing of it is still to be computed
            seconds += time.perf_counter() - start
            if drawn is None:
                break
            for each in looking:
                each.update(drawn)
    return {name: each.figures() for name, each in running.items()}, seconds


def numbers(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the measured floats of all groups by name, for logs and tables."""
    return {
        name: value
        for values in figures.values()
        for name, value in values.items()
        if isinstance(value, float)
    }
