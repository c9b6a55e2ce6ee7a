"""Fidelity and diversity apart: are samples near real ones, are real ones near samples?

The support of a set is taken as the union of the balls around its members that reach to their
``k``-th nearest neighbour in the set. *Precision* is the share of samples inside the support of the
real set, *recall* the share of real ones inside the support of the samples. A single outlier has a
huge ball, so *density* counts how many real balls a sample lies in (divided by ``k``; its mean is 1
for two sets of one distribution and may exceed 1), and *coverage* is the share of real balls that
hold a sample. A model that shows one good image again and again has precision 1 and recall 0.

Sources: Kynkaanniemi et al. 2019, arXiv 1904.06991, equations 1 and 2; Naeem et al. 2020,
arXiv 2002.09797, equations 5 and 6.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError

BLOCK = 1024
"""Rows of the matrix of distances that are held at once."""


@dataclass(frozen=True)
class NeighbourStatistics:
    """Four shares, each in [0, 1] but for the density, which is >= 0.

    Args:
        precision: Share of samples inside the support of the real set.
        recall: Share of real ones inside the support of the samples.
        density: Mean number of real balls that a sample lies in, divided by ``k``.
        coverage: Share of real balls that hold a sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_statistics(
    samples: Float[Tensor, "n d"],
    real: Float[Tensor, "m e"],
    *,
    k_support: int = 3,
    k_density: int = 5,
) -> NeighbourStatistics:
    """Return precision, recall, density and coverage of samples against real ones.

    They depend on the sizes of both sets: compare figures of equal sizes only. Time grows as the
    product of the sizes, memory as their sum.

    Args:
        samples: Features of samples ``(n, d)``.
        real: Features of real ones ``(m, d)``.
        k_support: Neighbour whose distance is the radius for precision and recall, >= 1 and below
            both sizes.
        k_density: The same for density and coverage, >= 1 and below ``m``.

    Raises:
        InputError: If shapes do not agree, a value is not finite, or a number is out of range.
    """
    if samples.ndim != 2 or real.ndim != 2 or samples.shape[1] != real.shape[1]:
        raise InputError(
            f"samples and real must be (n, d) and (m, d), got {tuple(samples.shape)} and "
            f"{tuple(real.shape)}"
        )
    smallest = min(len(samples), len(real))
    for name, k, size in (("k_support", k_support, smallest), ("k_density", k_density, len(real))):
        if not 1 <= k < size:
            raise InputError(f"{name} must lie in [1, {size - 1}], below the set's size, got {k}")
    a, b = (side.detach().cpu().double() for side in (samples, real))
    if not bool(a.isfinite().all() and b.isfinite().all()):
        raise InputError("samples and real must be finite")
    own = _radii(a, k_support)
    radii, wide = _radii(b, k_support), _radii(b, k_density)
    inside, recalled, covered, count = 0, 0, torch.zeros(len(b), dtype=torch.bool), 0
    for rows in a.split(BLOCK):
        distances = torch.cdist(rows, b)
        inside += int((distances <= radii).any(dim=1).sum())
        count += int((distances <= wide).sum())
        covered |= (distances <= wide).any(dim=0)
    for rows in b.split(BLOCK):
        recalled += int((torch.cdist(rows, a) <= own).any(dim=1).sum())
    return NeighbourStatistics(
        precision=inside / len(a),
        recall=recalled / len(b),
        density=count / (k_density * len(a)),
        coverage=float(covered.double().mean()),
    )


def _radii(x: Tensor, k: int) -> Tensor:
    """Return the distance of each row to its ``k``-th nearest other row, shape ``(n,)``."""
    parts = []
    for start in range(0, len(x), BLOCK):
        distances = torch.cdist(x[start : start + BLOCK], x)
        rows = torch.arange(len(distances))
        distances[rows, rows + start] = 0.0  # of a row to itself: rounding must not move it
        parts.append(distances.kthvalue(k + 1, dim=1).values)
    return torch.cat(parts)
