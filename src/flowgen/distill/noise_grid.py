"""Triples by noise level ``l = sigma / alpha``, as consistency training counts.

Levels are those of the linear path, ``l = (1 - t) / t``; :class:`SameNoise` finds the times of
another path where the levels are the same. The grid of iCT has more and more levels over a run:
few give a strong signal with bias, many little of both.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.distill.intervals import IntervalSampler
from flowgen.distill.triples import Triples, TripleSampler
from flowgen.paths import AffinePath, Path


class Doubling:
    """A number that doubles from ``first`` to ``last`` in stages of equal length over a run.

    Args:
        first: At least 1.
        last: At least ``first``; never exceeded.

    Attributes:
        stages: Their number, ``floor(log2(last / first)) + 1``.

    Raises:
        InputError: If a number leaves its range.

    Source: Song and Dhariwal 2023, arXiv 2310.14189, section 3.4.
    """

    def __init__(self, first: int = 10, last: int = 1280) -> None:
        if not 1 <= first <= last:
            raise InputError(f"first and last must satisfy 1 <= first <= last, got {first}, {last}")
        self.first, self.last = int(first), int(last)
        self.stages = int(math.log2(last // first)) + 1

    def __call__(self, progress: float) -> int:
        """Return the number at the share ``progress`` of a run, in ``[0, 1]``."""
        stage = min(int(progress * self.stages), self.stages - 1)
        return self.first * 2**stage


class NoiseGrid:
    """Neighbours on a grid of noise levels: from the noisier to the cleaner, then to the data.

    ``l_i = (a + (i / N) (b - a))^rho`` with ``a, b`` the ``1 / rho``-th powers of the ends; the
    interval ``i`` has the share of a log-normal level that lies in it.

    Args:
        count: Number ``N`` of intervals over a run.
        mean: Of the log of the level.
        std: Of the log of the level, above 0.
        smallest: Level, above 0.
        largest: Level, above ``smallest``.
        rho: Above 0; more of it puts more levels near the data.

    Attributes:
        edges: It leads to the data.

    Raises:
        InputError: If a number leaves its range.

    Source: Song and Dhariwal 2023, arXiv 2310.14189, sections 3.4 and 3.5; Karras et al. 2022,
        arXiv 2206.00364, eq. 5.
    """

    edges = (0.0, 1.0)

    def __init__(
        self,
        count: Doubling,
        *,
        mean: float = -1.1,
        std: float = 2.0,
        smallest: float = 0.002,
        largest: float = 80.0,
        rho: float = 7.0,
    ) -> None:
        if not 0 < smallest < largest < math.inf:
            raise InputError(
                f"levels must satisfy 0 < smallest < largest, got {smallest}, {largest}"
            )
        for name, value in (("std", std), ("rho", rho)):
            if not 0 < value < math.inf:
                raise InputError(f"{name} must be positive and finite, got {value}")
        if not math.isfinite(mean):
            raise InputError(f"mean must be finite, got {mean}")
        self.count = count
        self.mean, self.std = float(mean), float(std)
        self.smallest, self.largest, self.rho = float(smallest), float(largest), float(rho)
        self._made: tuple[tuple[int, torch.device], Tensor, Tensor] | None = None

    def levels(self, count: int) -> Float[Tensor, " n"]:
        """Return the ``count + 1`` rising levels, float64."""
        low, high = self.smallest ** (1 / self.rho), self.largest ** (1 / self.rho)
        return torch.linspace(low, high, count + 1, dtype=torch.float64) ** self.rho

    def shares(self, count: int) -> Float[Tensor, " n"]:
        """Return the probabilities of the ``count`` intervals, float64."""
        z = (self.levels(count).log() - self.mean) / (math.sqrt(2) * self.std)
        mass = torch.erf(z).diff()
        return mass / mass.sum()

    def _grid(self, count: int, place: torch.device) -> tuple[Tensor, Tensor]:
        """Return sums of the shares and times of the levels, made once for a stage of a run."""
        if self._made is None or self._made[0] != (count, place):
            below = self.shares(count).cumsum(0).float().to(place)
            times = (1 / (1 + self.levels(count))).float().to(place)
            self._made = ((count, place), below, times)
        return self._made[1], self._made[2]

    def __call__(
        self,
        n: int,
        progress: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Triples:
        """Return ``n`` triples, see :class:`flowgen.distill.TripleSampler`."""
        place = torch.device(device or "cpu") if generator is None else generator.device
        count = self.count(progress)
        below, times = self._grid(count, place)
        which = torch.searchsorted(below, torch.rand(n, generator=generator, device=place))
        which = which.clamp(max=count - 1)  # the last sum may be rounded below 1
        s, r = times[which + 1].to(device=device), times[which].to(device=device)
        return Triples(s, r, torch.ones_like(s), n)


class NoiseGap:
    """Random intervals, with the middle a fixed difference of noise levels after the start.

    Args:
        intervals: From when to when.
        gap: Difference of the levels, above 0; the middle is at most the end.

    Raises:
        InputError: If ``gap`` is not positive and finite.

    Source: Zhou et al. 2025, arXiv 2503.07565 (a constant decrement of ``sigma / alpha``).
    """

    def __init__(self, intervals: IntervalSampler, gap: float = 0.05) -> None:
        if not 0 < gap < math.inf:
            raise InputError(f"gap must be positive and finite, got {gap}")
        self.intervals = intervals
        self.gap = float(gap)

    def __call__(
        self,
        n: int,
        progress: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Triples:
        """Return ``n`` triples, see :class:`flowgen.distill.TripleSampler`."""
        del progress
        found = self.intervals(n, generator=generator, device=device)
        # 1 / (1 + level - gap), which also holds at time 0.
        later = found.s / (1 - self.gap * found.s).clamp(min=1e-6)
        return Triples(found.s, torch.minimum(later, found.t), found.t, found.apart)


class SameNoise:
    """The triples of another sampler, moved to the times of a path with the same noise levels.

    Args:
        path: Affine; on the linear path nothing changes.
        triples: Of the linear path.

    Attributes:
        edges: Those of ``triples``; they must be 0 and 1, which stay where they are.

    Raises:
        InputError: If the path has noise of its own, or there are edges between 0 and 1.
    """

    def __init__(self, path: Path, triples: TripleSampler) -> None:
        if not isinstance(path, AffinePath):
            raise InputError(f"{type(path).__name__} has noise of its own, and no noise level")
        edges = getattr(triples, "edges", None)
        if edges not in (None, (0.0, 1.0)):
            raise InputError(f"only the edges 0 and 1 have one time on all paths, got {edges}")
        self.schedule = path.schedule
        self.triples = triples
        self.edges = edges

    def __call__(
        self,
        n: int,
        progress: float = 1.0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Triples:
        """Return ``n`` triples, see :class:`flowgen.distill.TripleSampler`."""
        found = self.triples(n, progress, generator=generator, device=device)
        s, r, t = (self.schedule.time_of(x, 1 - x) for x in (found.s, found.r, found.t))
        return Triples(s, r, t, found.apart)
