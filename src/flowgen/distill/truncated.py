"""Truncated consistency: a second stage for a consistency model, at high noise alone.

A map that is right near the data is kept there as it is; the whole network serves the rest.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.distill.step_weights import StepWeight
from flowgen.distill.triples import Triples, TripleSampler
from flowgen.paths import Path


class Truncated:
    """The triples of another sampler; those that start after ``until`` rest there: ``s = r``.

    Resting rows hold the map at ``until`` to the one that is kept, see ``settled`` of
    :class:`flowgen.distill.Semigroup`.

    Args:
        triples: Leading to the data.
        until: In ``(0, 1)``.

    Attributes:
        edges: Those of ``triples``.

    Raises:
        InputError: If ``until`` leaves its range.

    Source: Lee et al. 2024, arXiv 2410.14895 (noise level 1, ``until = 0.5``; a quarter
        of the rows rest).
    """

    def __init__(self, triples: TripleSampler, until: float = 0.5) -> None:
        if not 0 < until < 1:
            raise InputError(f"until must be in (0, 1), got {until}")
        self.triples = triples
        self.until = float(until)
        self.edges = getattr(triples, "edges", None)

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
        s = found.s.clamp(max=self.until)
        return Triples(s, torch.where(found.s > self.until, s, found.r), found.t, found.apart)


class Resting:
    """Another weight for rows that move, a constant for rows that rest (``s = r``).

    Args:
        moving: Factor of the others.
        rest: At least 0; much less than ``moving`` at the limit does not hold the map there.

    Raises:
        InputError: If ``rest`` is negative.

    Source: Lee et al. 2024, arXiv 2410.14895 (the boundary's loss beside that of consistency).
    """

    def __init__(self, moving: StepWeight, rest: float = 8.0) -> None:
        if not rest >= 0:
            raise InputError(f"rest must be >= 0, got {rest}")
        self.moving = moving
        self.rest = float(rest)

    def __call__(self, path: Path, s: Tensor, r: Tensor, t: Tensor) -> Float[Tensor, " b"]:
        """Return the factors, shape ``(b,)``."""
        return torch.where(r > s, self.moving(path, s, r, t), self.rest)
