"""From which time to which: what a flow map is trained on.

The end may be fixed (the data, or the next edge of segments) or drawn as well. A share of rows may
begin and end at one time: there the map is the velocity itself, learnt as in flow matching. These
rows come last, so that derivatives are computed for the others alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.models import check_edges, last_edge, next_edge
from flowgen.objectives import TimeSampler, Uniform


@dataclass(frozen=True)
class Intervals:
    """Begin and end of each row's jump.

    Args:
        s: Where jumps begin, shape ``(b,)``.
        t: Where they end, shape ``(b,)``.
        apart: The first so many rows may have ``s != t``; all others have ``s = t``.
    """

    s: Float[Tensor, " b"]
    t: Float[Tensor, " b"]
    apart: int


@runtime_checkable
class IntervalSampler(Protocol):
    """A distribution of intervals."""

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Intervals:
        """Return ``n`` intervals inside ``[0, 1]``, float32."""
        ...


class ToEdge:
    """To the end of the segment of a random time; one segment leads to the data.

    Args:
        times: Where jumps begin; uniform if None.
        edges: Rising times from 0 to 1, those of the student's field.
        margin: Time that is kept from the end of each segment, at least the step of a derivative by
            differences, which so stays inside the segment.

    Raises:
        InputError: If the edges do not rise from 0 to 1, or a segment is no longer than the margin.
    """

    def __init__(
        self,
        times: TimeSampler | None = None,
        edges: Sequence[float] = (0.0, 1.0),
        margin: float = 0.0,
    ) -> None:
        self.times: TimeSampler = Uniform() if times is None else times
        self.edges = check_edges(edges)
        shortest = min(b - a for a, b in zip(self.edges[:-1], self.edges[1:], strict=True))
        if not 0 <= margin < shortest:
            raise InputError(f"margin must be in [0, {shortest:g}), got {margin}")
        self.margin = float(margin)

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Intervals:
        """Return ``n`` intervals, see :class:`IntervalSampler`."""
        s = self.times(n, generator=generator, device=device)
        t = next_edge(self.edges, s)
        if self.margin > 0:
            begin = last_edge(self.edges, s)
            s = begin + (s - begin) * (t - begin - self.margin) / (t - begin)
        return Intervals(s, t, n)


class TwoTimes:
    """From the earlier to the later of two random times.

    Args:
        times: Both are drawn from it; uniform if None, which is uniform on the triangle.
        diagonal: Share of rows that begin and end at one time, in ``[0, 1]``.

    Raises:
        InputError: If ``diagonal`` leaves its range.

    Source: Geng et al. 2025, arXiv 2505.13447, section 4.3 (``diagonal = 0.75``).
    """

    def __init__(self, times: TimeSampler | None = None, diagonal: float = 0.75) -> None:
        if not 0 <= diagonal <= 1:
            raise InputError(f"diagonal must be in [0, 1], got {diagonal}")
        self.times: TimeSampler = Uniform() if times is None else times
        self.diagonal = float(diagonal)

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Intervals:
        """Return ``n`` intervals, see :class:`IntervalSampler`."""
        one, other = (self.times(n, generator=generator, device=device) for _ in range(2))
        s, t = torch.minimum(one, other), torch.maximum(one, other)
        apart = n - round(self.diagonal * n)
        return Intervals(s, torch.cat([t[:apart], s[apart:]]), apart)
