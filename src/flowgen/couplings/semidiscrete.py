"""Semidiscrete optimal transport: from a source that can be sampled to a whole data set.

For the cost ``-x . y`` (the optimum is that of ``|x - y|^2``) the plan is a partition of space into
one cell for each point ``y_j``, the cell of the largest ``g_j + x . y_j`` (a Laguerre diagram). The
potential ``g`` maximises the concave ``F(g) = -E_x[max_j (g_j + x . y_j)] + sum_j b_j g_j``, whose
gradient is ``b`` minus the masses of the cells, so stochastic ascent needs nothing but samples of
the source. No batch takes part: after one fit the partner of a noise is found by one matrix product
and its optimality does not depend on the size of a batch.

How far the masses are from ``b`` is told by ``chi2 = sum_j m_j^2 / b_j - 1``. The plug-in estimate
from ``B`` samples is too large by about ``n / B``; the one by pairs of samples that fall into the
same cell is unbiased, and is what the fit stops at.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import InputError, flatten

_COLUMNS = 65_536
"""Points that are compared at once."""

_MOST_DIMS = 2048
"""Dimensions up to which the axes of the data are found for the first potential."""


@dataclass(frozen=True)
class SemidiscreteFit:
    """The end of a fit.

    Args:
        potential: ``g``, shape ``(n,)``, mean 0.
        chi2: Unbiased estimate of ``sum_j m_j^2 / b_j - 1``; 0 for exact masses.
        error: Standard error of ``chi2``.
        steps: Taken.
        converged: Whether ``chi2`` came below the threshold.
    """

    potential: Float[Tensor, " n"]
    chi2: float
    error: float
    steps: int
    converged: bool


def cell_of(
    x: Float[Tensor, "b *d"], points: Float[Tensor, "n *d"], potential: Float[Tensor, " n"]
) -> Int[Tensor, " b"]:
    """Return for each source sample the point whose cell it falls into: ``argmax g_j + x . y_j``.

    Args:
        x: Source samples ``(b, *d)``.
        points: The data ``(n, *d)``, on the same device.
        potential: ``g``, shape ``(n,)``.

    Returns:
        Indices ``(b,)``, int64.
    """
    x, points = flatten(x), flatten(points)
    best = torch.full((len(x),), -math.inf, dtype=x.dtype, device=x.device)
    index = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for start in range(0, len(points), _COLUMNS):
        rows = slice(start, start + _COLUMNS)
        score, place = torch.addmm(potential[rows].to(x), x, points[rows].to(x).mT).max(dim=1)
        nearer = score > best
        best = torch.where(nearer, score, best)
        index = torch.where(nearer, place + start, index)
    return index


def chi2_of(count: Int[Tensor, " n"], weights: Float[Tensor, " n"]) -> tuple[float, float]:
    """Return the unbiased estimate of ``sum_j m_j^2 / b_j - 1`` and its standard error.

    With ``c_j`` of ``M`` samples in cell ``j`` it is ``sum_j c_j (c_j - 1) / (b_j M (M - 1)) - 1``,
    the mean of ``1 / b_j`` over pairs of samples that share a cell; its variance is that of such a
    U-statistic, ``2 (n - 1) / M^2 + 4 chi2 / M`` near the optimum.

    Args:
        count: Samples in each cell ``(n,)``, at least 2 in all.
        weights: ``b_j``, shape ``(n,)``, summing to 1.

    Source: derived; the chi-square as a stop rule is that of Mousavi-Hosseini et al. 2025, arXiv
        2509.25519.
    """
    c, b = count.double(), weights.double()
    size = float(c.sum())
    chi2 = float((c * (c - 1) / b).sum() / (size * (size - 1)) - 1)
    return chi2, math.sqrt(2 * (len(b) - 1) + 4 * max(chi2, 0.0) * size) / size


@dataclass(frozen=True)
class SemidiscreteSolver:
    """Stochastic ascent in stages, each with a constant step and an average over its second half.

    The step shrinks to a third after a stage that took less than a fifth off ``chi2``; so the right
    scale, which differs much between few and many dimensions, is found by itself. It starts from
    the potential between normal laws of the same moments.

    It stops where ``chi2`` is below the threshold by two standard errors. As many samples are
    counted as that takes, after each stage of so many steps that a sample is met 50 times.

    Args:
        batch: Source samples of a step, >= 2.
        max_steps: Most steps, >= 1.
        threshold: Of ``chi2``, > 0 and finite. The gain for flow matching saturates near 0.05.

    Raises:
        InputError: If a number is out of range.

    Source: Genevay et al. 2016, arXiv 1605.08527; Mousavi-Hosseini et al. 2025, arXiv 2509.25519.
    """

    batch: int = 1024
    max_steps: int = 20_000
    threshold: float = 0.05

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("batch", 2), ("max_steps", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if not 0 < self.threshold < math.inf:
            raise InputError(f"threshold must be > 0 and finite, got {self.threshold}")

    @torch.no_grad()
    def __call__(
        self,
        points: Float[Tensor, "n *d"],
        sample: Callable[[int], Tensor],
        *,
        weights: Float[Tensor, " n"] | None = None,
        told: Callable[[int, float, float], None] | None = None,
    ) -> SemidiscreteFit:
        """Return the potential of the cells that have the masses ``weights``.

        Args:
            points: The data ``(n, *d)``, floating and finite.
            sample: From a number ``b`` to that many new source samples ``(b, *d)``, on the device
                of the points.
            weights: Mass of each point, positive, summing to 1; equal if None.
            told: Is given the step, ``chi2`` and its standard error at every look.

        Raises:
            InputError: If there are no two points, or values are not finite.
        """
        flat = flatten(points)
        n = len(flat)
        if n < 2 or not bool(flat.isfinite().all()):
            raise InputError(f"points must be finite and at least 2, got {n}")
        flat = flat - flat.mean(dim=0)
        if weights is None:
            weights = torch.full((n,), 1 / n, dtype=flat.dtype, device=flat.device)
        potential = _of_gaussians(flat)
        # The distance of the best of n normal scores from the next best.
        scores = flatten(sample(self.batch)) @ flat.mT
        size = float(scores.std()) / math.sqrt(2 * math.log(n + 1)) * min(n, self.batch / 4)
        # chi2 is a mean over pairs of samples, so there is none of a single one.
        needed = max(2, math.ceil(8 * math.sqrt(2 * n) / self.threshold))
        best, (chi2, error) = potential, self._chi2(flat, potential, weights, sample, needed)
        k, stage = 0, math.ceil(50 * max(1.0, n / self.batch))
        while k < self.max_steps and not chi2 + 2 * error < self.threshold:
            potential, total = best.clone(), torch.zeros_like(best)
            steps = min(stage, self.max_steps - k)
            for i in range(steps):
                mass = self._counted(flat, potential, sample, self.batch).to(weights) / self.batch
                potential += size * (weights - mass)
                if 2 * i >= steps:
                    total += potential
            average = total / (steps - (steps + 1) // 2)
            k += steps
            found, its_error = self._chi2(flat, average, weights, sample, needed)
            if told is not None:
                told(k, found, its_error)
            if found > 0.8 * chi2:
                size /= 3
            if found < chi2:
                best, chi2, error = average, found, its_error
        converged = chi2 + 2 * error < self.threshold
        return SemidiscreteFit(best - best.mean(), chi2, error, k, converged)

    def _chi2(
        self,
        flat: Tensor,
        potential: Tensor,
        weights: Tensor,
        sample: Callable[[int], Tensor],
        size: int,
    ) -> tuple[float, float]:
        return chi2_of(self._counted(flat, potential, sample, size), weights)

    def _counted(
        self, flat: Tensor, potential: Tensor, sample: Callable[[int], Tensor], size: int
    ) -> Tensor:
        """Return how many of ``size`` new source samples fall into each cell."""
        count = torch.zeros(len(flat), dtype=torch.int64, device=flat.device)
        for start in range(0, size, self.batch):
            cells = cell_of(flatten(sample(min(self.batch, size - start))), flat, potential)
            count += torch.bincount(cells, minlength=len(flat))
        return count


def _of_gaussians(flat: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the potential from a standard normal law to the normal law of the points' moments.

    ``-y . S^(-1/2) y / 2`` for covariance ``S``: the gradient of its conjugate is the map
    ``S^(1/2) x``. Of very many dimensions only the variances are used.
    """
    n, d = flat.shape
    if d > _MOST_DIMS:
        variance, y = flat.square().mean(dim=0), flat
    else:
        variance, axes = torch.linalg.eigh(flat.mT @ flat / n)
        y = flat @ axes
    kept = variance > 1e-6 * variance.max()
    return -0.5 * (y[:, kept].square() / variance[kept].sqrt()).sum(dim=1)
