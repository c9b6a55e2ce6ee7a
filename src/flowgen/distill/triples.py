"""From when, over which middle, to when: what the semigroup identity is trained on.

``s <= r <= t``. Rows that begin and end at one time come last and learn the velocity.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.distill.intervals import IntervalSampler, ToEdge
from flowgen.objectives import TimeSampler


@dataclass(frozen=True)
class Triples:
    """Begin, middle and end of each row, shape ``(b,)``; the first ``apart`` rows have a length."""

    s: Float[Tensor, " b"]
    r: Float[Tensor, " b"]
    t: Float[Tensor, " b"]
    apart: int


@runtime_checkable
class TripleSampler(Protocol):
    """A distribution of triples, which may change over a run."""

    def __call__(
        self,
        n: int,
        progress: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Triples:
        """Return ``n`` triples inside ``[0, 1]``, float32.

        Args:
            n: How many.
            progress: Share of the run that is over, in ``[0, 1]``.
            generator: Draws them.
            device: Where they live.
        """
        ...


class Middle:
    """Random intervals with their middle, or a random time between.

    Args:
        intervals: From when to when.
        share: Of an interval that lies before the middle, in ``(0, 1)``; None draws it uniformly.

    Raises:
        InputError: If ``share`` leaves its range.

    Source: Boffi, Albergo and Vanden-Eijnden 2025, arXiv 2505.18825, eq. 17 (PSD-M, PSD-U).
    """

    def __init__(self, intervals: IntervalSampler, share: float | None = 0.5) -> None:
        if share is not None and not 0 < share < 1:
            raise InputError(f"share must be in (0, 1), got {share}")
        self.intervals = intervals
        self.share = share

    def __call__(
        self,
        n: int,
        progress: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Triples:
        """Return ``n`` triples, see :class:`TripleSampler`."""
        del progress
        found = self.intervals(n, generator=generator, device=device)
        s, t = found.s, found.t
        share: Tensor | float | None = self.share
        if share is None:
            place = s.device if generator is None else generator.device
            share = torch.rand(n, generator=generator, device=place).to(s)
        return Triples(s, s + share * (t - s), t, found.apart)


class Dyadic:
    """Lengths ``1, 1/2, 1/4, ...`` on the grid of their multiples, halved in the middle.

    Args:
        levels: Number of lengths that are halved, >= 1; the shortest is ``2^-(levels - 1)``.
        diagonal: Share of rows that learn the velocity, at times of the finest grid, in ``[0, 1]``.

    Raises:
        InputError: If a number leaves its range.

    Source: Frans et al. 2024, arXiv 2410.12557, section 3.2 (7 levels, 3 of 4 rows or more).
    """

    def __init__(self, levels: int = 7, diagonal: float = 0.75) -> None:
        if levels < 1:
            raise InputError(f"levels must be >= 1, got {levels}")
        if not 0 <= diagonal <= 1:
            raise InputError(f"diagonal must be in [0, 1], got {diagonal}")
        self.levels = levels
        self.diagonal = float(diagonal)

    def __call__(
        self,
        n: int,
        progress: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Triples:
        """Return ``n`` triples, see :class:`TripleSampler`."""
        del progress
        place = device if generator is None else generator.device
        apart = n - round(self.diagonal * n)
        # Every length has as many rows as any other.
        level = torch.arange(n, device=place) % self.levels
        count = 2.0**level
        count[apart:] = 2.0**self.levels
        start = (torch.rand(n, generator=generator, device=place) * count).floor()
        length = torch.where(torch.arange(n, device=place) < apart, 1 / count, 0.0)
        s = (start / count).to(device=device)
        length = length.to(s)
        return Triples(s, s + length / 2, s + length, apart)


class NextStep:
    """A short step first, then the rest of the way to the end of the segment.

    The step halves ``halvings`` times over the run: long steps learn fast, short ones right.

    Args:
        times: Where jumps begin; uniform if None.
        edges: Rising times from 0 to 1, those of the student's field.
        step: Length of the first step in the end, in ``(0, 1)``.
        halvings: At least 0; 0 has the same step all the time.

    Raises:
        InputError: If a number leaves its range.

    Source: Song et al. 2023, arXiv 2303.01469, section 4, and Wang et al. 2024, arXiv 2405.18407,
        eq. 8, for continuous times; the schedule after Song and Dhariwal 2023, arXiv 2310.14189.
    """

    def __init__(
        self,
        times: TimeSampler | None = None,
        edges: Sequence[float] = (0.0, 1.0),
        *,
        step: float = 0.01,
        halvings: int = 0,
    ) -> None:
        if not 0 < step < 1:
            raise InputError(f"step must be in (0, 1), got {step}")
        if halvings < 0:
            raise InputError(f"halvings must be >= 0, got {halvings}")
        self._starts = ToEdge(times, edges)
        self.edges = self._starts.edges
        self.step = float(step)
        self.halvings = int(halvings)

    def __call__(
        self,
        n: int,
        progress: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Triples:
        """Return ``n`` triples, see :class:`TripleSampler`."""
        found = self._starts(n, generator=generator, device=device)
        stage = min(int(progress * (self.halvings + 1)), self.halvings)
        step = self.step * 2.0 ** (self.halvings - stage)
        return Triples(found.s, torch.minimum(found.s + step, found.t), found.t, n)


class Ratio:
    """The middle at a share of the noise level: from plain denoising to a map, in stages.

    With the noise level ``l = (1 - s) / s`` the middle has ``max(0, l (1 - 2^-stage n(l)))`` with
    ``n(l) = 1 + k sigmoid(-b l)``: where it is 0 the target is the data itself.

    Args:
        times: Where jumps begin.
        stages: Of equal length in the run, >= 1; the first has ``2^-first``.
        first: Halvings in the first stage, >= 1.
        k: At least 0.
        b: Per unit of noise level.

    Raises:
        InputError: If a number leaves its range.

    Source: Geng et al. 2024, arXiv 2406.14548, eq. 12 and section 4 (``k = 8, b = 1``, 8 stages).
    """

    edges = (0.0, 1.0)

    def __init__(
        self, times: TimeSampler, *, stages: int = 8, first: int = 1, k: float = 8.0, b: float = 1.0
    ) -> None:
        for name, value in (("stages", stages), ("first", first)):
            if value < 1:
                raise InputError(f"{name} must be >= 1, got {value}")
        if not k >= 0:
            raise InputError(f"k must be >= 0, got {k}")
        self.times = times
        self.stages, self.first = int(stages), int(first)
        self.k, self.b = float(k), float(b)

    def __call__(
        self,
        n: int,
        progress: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Triples:
        """Return ``n`` triples, see :class:`TripleSampler`."""
        s = self.times(n, generator=generator, device=device)
        stage = self.first + min(int(progress * self.stages), self.stages - 1)
        level = (1 - s) / s
        near = 1 + self.k * torch.sigmoid(-self.b * level)
        kept = (level * (1 - near * 2.0**-stage)).clamp(min=0)
        return Triples(s, torch.maximum(1 / (1 + kept), s), torch.ones_like(s), n)


class Approach:
    """The middle draws near the start over the run: from flow matching to MeanFlow.

    ``r = s + a (t - s)`` with ``a = 1 - sigmoid(sharpness (p - 1/2))`` for the share ``p`` of the
    run; 1 where it is within ``snap`` of 1, and at least ``snap``.

    Args:
        intervals: From when to when.
        sharpness: Above 0.
        snap: In ``(0, 0.5)``.

    Raises:
        InputError: If a number leaves its range.

    Source: Zhang et al. 2025, arXiv 2510.20771, section 4.2 (sharpness 25, snap 0.005).
    """

    def __init__(
        self, intervals: IntervalSampler, *, sharpness: float = 25.0, snap: float = 0.005
    ) -> None:
        if not 0 < sharpness < math.inf:
            raise InputError(f"sharpness must be positive and finite, got {sharpness}")
        if not 0 < snap < 0.5:
            raise InputError(f"snap must be in (0, 0.5), got {snap}")
        self.intervals = intervals
        self.sharpness, self.snap = float(sharpness), float(snap)

    def share(self, progress: float) -> float:
        """Return ``a`` at a share of the run."""
        share = 1 - 1 / (1 + math.exp(-self.sharpness * (progress - 0.5)))
        return 1.0 if share > 1 - self.snap else max(share, self.snap)

    def __call__(
        self,
        n: int,
        progress: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Triples:
        """Return ``n`` triples, see :class:`TripleSampler`."""
        found = self.intervals(n, generator=generator, device=device)
        share = self.share(progress)
        middle = found.s + share * (found.t - found.s)
        return Triples(found.s, middle, found.t, found.apart)
