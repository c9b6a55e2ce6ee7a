"""Where the time of a step goes: a stopwatch with named phases.

On a CPU the phases are read off the wall clock. On CUDA work is only queued when a call returns, so
events are put into the queue and their distances read when the log is due; the step never waits.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch


@runtime_checkable
class Clock(Protocol):
    """Marks moments and tells the time between two of them."""

    def mark(self) -> Any:
        """Return a mark of this moment."""
        ...

    def seconds(self, start: Any, end: Any) -> float:
        """Return the seconds between two marks."""
        ...


class WallClock:
    """The time that passes."""

    def mark(self) -> float:
        """Return the time in seconds, from an arbitrary start."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """Return the seconds between two marks."""
        return end - start


class CudaClock:
    """The time that passes on a CUDA device; reading it waits for the work before the mark."""

    def mark(self) -> torch.cuda.Event:
        """Return an event in the queue of the current stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return the seconds between two events."""
        end.synchronize()
        return start.elapsed_time(end) / 1e3


def clock_for(device: torch.device) -> Clock:
    """Return the clock of a device."""
    return CudaClock() if device.type == "cuda" else WallClock()


PENDING = 1000
"""Most spans of a phase that wait to be read."""


class Phases:
    """Adds up the time of named phases over steps.

    Args:
        clock: Of the device that does the work.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.steps = 0
        self._spans: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self._sums: dict[str, float] = defaultdict(float)
        self._samples = 0
        self._waited = self._busy = 0.0
        self._since = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to ``name``."""
        start = self.clock.mark()
        yield
        self._spans[name].append((start, self.clock.mark()))

    def add(self, name: str, seconds: float, *, waited: bool) -> None:
        """Add time that was measured elsewhere to ``name``.

        Args:
            name: Of the phase.
            seconds: Of wall time.
            waited: Whether it passed while the step waited for data, and so is counted as such.
        """
        self._sums[name] += seconds
        if waited:
            self._waited -= seconds

    def begin(self) -> None:
        """Begin a step: what passed since the last :meth:`rest` was waiting for data."""
        now = time.perf_counter()
        self._waited += now - self._since
        self._busy += now - self._since
        self._since = now

    def end(self, samples: int) -> None:
        """End a step that took so many samples, over all processes."""
        now = time.perf_counter()
        self._busy += now - self._since
        self._since = now
        self.steps += 1
        self._samples += samples
        if max(map(len, self._spans.values()), default=0) > PENDING:
            self._fold()

    def rest(self) -> None:
        """Leave out what passed since the step ended: pictures and checkpoints are no training."""
        self._since = time.perf_counter()

    def read(self) -> dict[str, float]:
        """Return ``ms/<phase>``, ``ms/step`` and ``samples_per_second``; start again.

        Times are means over steps. The rate is that of training alone: pictures and checkpoints
        take no part in it. Nothing is returned if there was no step since the last time.
        """
        if self.steps == 0:
            return {}
        self._fold()
        found = {f"ms/{name}": 1e3 * total / self.steps for name, total in self._sums.items()}
        found["ms/data"] = 1e3 * max(self._waited, 0.0) / self.steps
        found["ms/step"] = 1e3 * self._busy / self.steps
        found["samples_per_second"] = self._samples / max(self._busy, 1e-9)
        self._sums.clear()
        self._waited = self._busy = 0.0
        self.steps = self._samples = 0
        return found

    def _fold(self) -> None:
        for name, spans in self._spans.items():
            self._sums[name] += sum(self.clock.seconds(*span) for span in spans)
        self._spans.clear()
