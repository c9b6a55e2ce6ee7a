"""Frechet distance of two Gaussians, and the running mean and covariance it is fed with.

``FD = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^(1/2) C_2 C_1^(1/2))^(1/2))`` is the squared W2
distance of ``N(m_1, C_1)`` and ``N(m_2, C_2)``. The middle matrix is symmetric and positive
semi-definite, so its root comes from an eigen-decomposition in float64; general matrix roots have
given wrong published numbers on singular covariances.

With fewer samples than features the covariances are singular and FD is biased upwards: report the
number of samples, and the distance of two sets of real data of the same sizes beside it.

Source: Dowson and Landau 1982; Heusel et al. 2017, arXiv 1706.08500, for image features.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError


def frechet_distance(
    mean_1: Float[Tensor, " _"],
    cov_1: Float[Tensor, "_ _"],
    mean_2: Float[Tensor, " _"],
    cov_2: Float[Tensor, "_ _"],
) -> float:
    """Return the squared W2 distance of two Gaussians, in squared units of the features.

    Args:
        mean_1: Mean of the first, ``(d,)``.
        cov_1: Its covariance ``(d, d)``, symmetric, positive semi-definite, of any rank.
        mean_2: Mean of the second, ``(d,)``.
        cov_2: Its covariance ``(d, d)``.

    Returns:
        The distance, >= 0 up to rounding; not its root.

    Raises:
        InputError: If shapes do not agree or a value is not finite.
    """
    d = len(mean_1)
    means = [mean.detach().cpu().double() for mean in (mean_1, mean_2)]
    covs = [cov.detach().cpu().double() for cov in (cov_1, cov_2)]
    if any(mean.shape != (d,) for mean in means) or any(cov.shape != (d, d) for cov in covs):
        raise InputError(f"means must be ({d},) and covariances ({d}, {d})")
    if not all(bool(value.isfinite().all()) for value in (*means, *covs)):
        raise InputError("means and covariances must be finite")
    return _squared_w2(means[0] - means[1], covs[0], _root(covs[0]), covs[1])


def _root(cov: Tensor) -> Tensor:
    """Return the symmetric root of a covariance ``(d, d)``."""
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


def _squared_w2(shift: Tensor, cov: Tensor, root: Tensor, other: Tensor) -> float:
    """Return the distance by the difference of means ``(d,)``, ``C_1``, its root and ``C_2``."""
    middle = root @ other @ root
    cross = torch.linalg.eigvalsh((middle + middle.mT) / 2).clamp(min=0).sqrt().sum()
    return float(shift.square().sum() + cov.trace() + other.trace() - 2 * cross)


class GaussianStatistics:
    """Mean and covariance of features that arrive in batches, in float64.

    Batches are merged by their means and scatter matrices, so the result does not depend on how
    the features are split, up to rounding, and nothing is lost far from the origin.

    Args:
        num_features: Length ``d`` of a feature vector, >= 1.

    Raises:
        InputError: If ``num_features < 1``.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
    sample variances".
    """

    def __init__(self, num_features: int) -> None:
        if num_features < 1:
            raise InputError(f"num_features must be >= 1, got {num_features}")
        self.num_features = num_features
        self.count = 0
        self._mean = torch.zeros(num_features, dtype=torch.float64)
        self._scatter = torch.zeros(num_features, num_features, dtype=torch.float64)
        self._root: Tensor | None = None

    def update(self, features: Float[Tensor, "n _"]) -> None:
        """Take in ``features (n, d)``; ``n`` may be 0.

        Raises:
            InputError: If they have another length or are not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise InputError(
                f"features must be (n, {self.num_features}), got {tuple(features.shape)}"
            )
        rows = features.detach().cpu().double()
        if not bool(rows.isfinite().all()):
            raise InputError("features must be finite")
        if len(rows) == 0:
            return
        mean = rows.mean(dim=0)
        centred = rows - mean
        self._take(len(rows), mean, centred.mT @ centred)

    @classmethod
    def merged(cls, parts: "Sequence[GaussianStatistics]") -> "GaussianStatistics":
        """Return the statistics of all features that disjoint ``parts`` have seen.

        Raises:
            InputError: If there are no parts, or they have features of different lengths.
        """
        if not parts:
            raise InputError("parts must hold at least one set of statistics")
        whole = cls(parts[0].num_features)
        for part in parts:
            if part.num_features != whole.num_features:
                raise InputError(
                    f"parts must have features of one length, got {part.num_features} beside "
                    f"{whole.num_features}"
                )
            if part.count:
                whole._take(part.count, part._mean, part._scatter)
        return whole

    @property
    def mean(self) -> Float[Tensor, " d"]:
        """The mean ``(d,)``.

        Raises:
            InputError: If nothing has been taken in.
        """
        if self.count < 1:
            raise InputError("a mean needs at least 1 sample, got 0")
        return self._mean

    @property
    def cov(self) -> Float[Tensor, "d d"]:
        """The unbiased covariance ``(d, d)``.

        Raises:
            InputError: If less than 2 samples have been taken in.
        """
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 samples, got {self.count}")
        return self._scatter / (self.count - 1)

    def _take(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        shift = mean - self._mean
        between = torch.outer(shift, shift) * (self.count * count / total)
        self._scatter = self._scatter + scatter + between
        self._mean = self._mean + shift * (count / total)
        self.count = total
        self._root = None

    def distance(self, other: "GaussianStatistics") -> float:
        """Return the Frechet distance to ``other``, see :func:`frechet_distance`.

        Half of its cost is paid once for each ``other``, so give what many are compared with there.

        Raises:
            InputError: If the lengths of features differ, or one has seen less than 2 of them.
        """
        if self.num_features != other.num_features:
            raise InputError(
                f"features must have one length, got {self.num_features} beside "
                f"{other.num_features}"
            )
        mine, theirs = self.cov, other.cov
        if other._root is None:
            other._root = _root(theirs)
        return _squared_w2(self.mean - other.mean, theirs, other._root, mine)
