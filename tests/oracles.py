"""Exact answers in float64: Gaussian and Gaussian-mixture data under an independent coupling.

With ``x_t = alpha x_1 + sigma x_0`` and Gaussian ends everything is linear algebra: the marginal
velocity is ``v = d_alpha E[x_1 | x_t] + d_sigma E[x_0 | x_t]``. ``S_0 = P P'`` and
``S_1 = P diag(ratios) P'`` always hold for one ``P``, and marginal velocities are covariant under
linear maps, so the probability-flow map is closed for any pair of covariances:
``P diag(sqrt(V_t / V_s)) P^-1`` with ``V_t = alpha^2 ratios + sigma^2``.

Oracles are plain callables ``(x, t, cond=None) -> v`` for ``x (b, n)`` or any ``(b, *d)`` with the
same number of values per sample; they compute in float64 and answer in the dtype of ``x``. The
schedule is any callable ``t -> Coefficients``; the default needs nothing of ``flowgen.paths``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flowgen.core import Coefficients, Condition, Pair

CoefficientsOf = Callable[[Tensor], Coefficients]


def linear_schedule(t: Tensor) -> Coefficients:
    """Return alpha = t, sigma = 1 - t: the default path of the oracles."""
    return Coefficients(t, 1 - t, torch.ones_like(t), -torch.ones_like(t))


def matrix_sqrt(matrix: Tensor) -> Tensor:
    """Return the symmetric root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


def bures_w2_squared(mean_0: Tensor, cov_0: Tensor, mean_1: Tensor, cov_1: Tensor) -> float:
    """Return the squared 2-Wasserstein distance of two Gaussians."""
    root = matrix_sqrt(cov_0)
    cross = matrix_sqrt(root @ cov_1.double() @ root)
    shift = (mean_1.double() - mean_0.double()).square().sum()
    return float(shift + cov_0.double().trace() + cov_1.double().trace() - 2 * cross.trace())


def bures_map(cov_0: Tensor, cov_1: Tensor) -> Tensor:
    """Return the symmetric ``T`` with ``T S_0 T = S_1``: the linear part of the optimal map."""
    root = matrix_sqrt(cov_0)
    inverse = torch.linalg.inv(root)
    return inverse @ matrix_sqrt(root @ cov_1.double() @ root) @ inverse


class _Oracle(ABC):
    """Shapes, dtype and schedule, shared by the oracles."""

    def __init__(
        self, size: int, shape: Sequence[int] | None, schedule: CoefficientsOf | None
    ) -> None:
        self.shape = tuple(shape) if shape is not None else (size,)
        if math.prod(self.shape) != size:
            raise ValueError(f"shape {self.shape} does not hold {size} values")
        self.size = size
        self.schedule: CoefficientsOf = linear_schedule if schedule is None else schedule
        self.domain: tuple[float, float] = getattr(schedule, "domain", (0.0, 1.0))

    def _flat(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x[0].numel() != self.size:
            raise ValueError(f"x must hold {self.size} values per sample, got {tuple(x.shape)}")
        return x.reshape(x.shape[0], -1).double()

    def _at(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, sigma, d_alpha, d_sigma, each ``(b, 1)`` in float64."""
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape {tuple(x.shape[:1])}, got {tuple(t.shape)}")
        c = self.schedule(t.double())
        columns = [value[:, None] for value in (c.alpha, c.sigma, c.d_alpha, c.d_sigma)]
        return columns[0], columns[1], columns[2], columns[3]

    @abstractmethod
    def posterior_means(
        self, x: Tensor, t: Tensor, cond: Condition | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return ``E[x_1 | x_t = x]`` and ``E[x_0 | x_t = x]``, each of the shape of ``x``."""

    def data_mean(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return ``E[x_1 | x_t = x]``."""
        return self.posterior_means(x, t, cond)[0]

    def noise_mean(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return ``E[x_0 | x_t = x]``."""
        return self.posterior_means(x, t, cond)[1]

    def __call__(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the marginal velocity ``(b, *d)``."""
        data, noise = self.posterior_means(x.double(), t, cond)
        _, _, d_alpha, d_sigma = self._at(t, x)
        v = d_alpha * self._flat(data) + d_sigma * self._flat(noise)
        return v.reshape(x.shape).to(x.dtype)

    velocity = __call__


class GaussianOracle(_Oracle):
    """Source N(mean_0, cov_0), data N(mean_1, cov_1), independent; any two covariances.

    Args:
        mean_0: Shape ``(n,)``; 0 if None.
        cov_0: Shape ``(n, n)``, positive definite; the identity if None.
        mean_1: Shape ``(n,)``.
        cov_1: Shape ``(n, n)``, positive semi-definite.
        schedule: Times ``(b,)`` to coefficients; the linear path if None.
        shape: Shape of one sample, for :meth:`sample`; ``(n,)`` if None.
    """

    def __init__(
        self,
        mean_1: Tensor,
        cov_1: Tensor,
        mean_0: Tensor | None = None,
        cov_0: Tensor | None = None,
        *,
        schedule: CoefficientsOf | None = None,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(mean_1.numel(), shape, schedule)
        n = self.size
        self.mean_1, self.cov_1 = mean_1.double().reshape(n), cov_1.double()
        self.mean_0 = torch.zeros(n).double() if mean_0 is None else mean_0.double().reshape(n)
        self.cov_0 = torch.eye(n).double() if cov_0 is None else cov_0.double()
        lower = torch.linalg.cholesky(self.cov_0)
        half = torch.linalg.solve_triangular(lower, self.cov_1, upper=False)
        whitened = torch.linalg.solve_triangular(lower, half.mT, upper=False)
        ratios, rotation = torch.linalg.eigh((whitened + whitened.mT) / 2)
        self.ratios = ratios.clamp(min=0)
        self.basis = lower @ rotation
        self.inverse_basis = torch.linalg.inv(self.basis)

    def mean(self, t: Tensor) -> Tensor:
        """Return the mean of ``x_t``, shape ``(b, n)``, at times ``(b,)``."""
        c = self.schedule(t.double())
        return c.alpha[:, None] * self.mean_1 + c.sigma[:, None] * self.mean_0

    def cov(self, t: Tensor) -> Tensor:
        """Return the covariance of ``x_t``, shape ``(b, n, n)``, at times ``(b,)``."""
        c = self.schedule(t.double())
        alpha, sigma = c.alpha[:, None, None], c.sigma[:, None, None]
        return alpha.square() * self.cov_1 + sigma.square() * self.cov_0

    def _variances(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha.square() * self.ratios + sigma.square()

    def _centred(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return ``P^-1 (x - mean_t)``."""
        shift = self._flat(x) - alpha * self.mean_1 - sigma * self.mean_0
        return shift @ self.inverse_basis.mT

    def posterior_means(
        self, x: Tensor, t: Tensor, cond: Condition | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return ``E[x_1 | x_t = x]`` and ``E[x_0 | x_t = x]``, each of the shape of ``x``."""
        alpha, sigma, _, _ = self._at(t, x)
        z = self._centred(x, alpha, sigma) / self._variances(alpha, sigma)
        data = self.mean_1 + (alpha * self.ratios * z) @ self.basis.mT
        noise = self.mean_0 + (sigma * z) @ self.basis.mT
        return data.reshape(x.shape).to(x.dtype), noise.reshape(x.shape).to(x.dtype)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the gradient of the log density of ``x_t``, the shape of ``x``."""
        alpha, sigma, _, _ = self._at(t, x)
        z = self._centred(x, alpha, sigma) / self._variances(alpha, sigma)
        return -(z @ self.inverse_basis).reshape(x.shape).to(x.dtype)

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the log density of ``x_t`` at ``x``, shape ``(b,)``, in nats."""
        alpha, sigma, _, _ = self._at(t, x)
        variances = self._variances(alpha, sigma)
        squares = (self._centred(x, alpha, sigma).square() / variances).sum(dim=1)
        log_det = variances.log().sum(dim=1) + torch.linalg.slogdet(self.cov_0).logabsdet
        return (-0.5 * (squares + log_det + self.size * math.log(2 * math.pi))).to(x.dtype)

    def flow(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Return where the probability flow carries ``x`` from times ``s`` to ``t``, each (b,)."""
        alpha_s, sigma_s, _, _ = self._at(s, x)
        alpha_t, sigma_t, _, _ = self._at(t, x)
        stretch = self._variances(alpha_t, sigma_t) / self._variances(alpha_s, sigma_s)
        z = stretch.sqrt() * self._centred(x, alpha_s, sigma_s)
        moved = alpha_t * self.mean_1 + sigma_t * self.mean_0 + z @ self.basis.mT
        return moved.reshape(x.shape).to(x.dtype)

    def w2_squared(self) -> float:
        """Return the squared 2-Wasserstein distance of source and data."""
        return bures_w2_squared(self.mean_0, self.cov_0, self.mean_1, self.cov_1)

    def optimal_map(self, x_0: Tensor) -> Tensor:
        """Return the optimal-transport image of source samples ``(b, *d)``."""
        matrix = bures_map(self.cov_0, self.cov_1)
        moved = self.mean_1 + (self._flat(x_0) - self.mean_0) @ matrix.mT
        return moved.reshape(x_0.shape).to(x_0.dtype)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Pair:
        """Return ``n`` independent pairs, each side ``(n, *shape)``, in float64."""
        noise = torch.randn(2, n, self.size, generator=generator, dtype=torch.float64)
        x_0 = self.mean_0 + noise[0] @ self.basis.mT
        x_1 = self.mean_1 + (self.ratios.sqrt() * noise[1]) @ self.basis.mT
        return Pair(x_0.reshape(n, *self.shape), x_1.reshape(n, *self.shape))


class MixtureOracle(_Oracle):
    """Source N(0, I), data a finite mixture of Gaussians, independent.

    ``cond["label"]`` (b,) int64 restricts the data to one component; the label ``k`` (one past the
    last) is the null label and means the whole mixture, as does no ``cond``.

    Args:
        weights: Shape ``(k,)``, positive; normalised here.
        means: Shape ``(k, n)``.
        covs: Shape ``(k, n, n)``, or standard deviations of isotropic components, shape ``(k,)``.
        schedule: Times ``(b,)`` to coefficients; the linear path if None.
        shape: Shape of one sample, for :meth:`sample`; ``(n,)`` if None.
    """

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        covs: Tensor,
        *,
        schedule: CoefficientsOf | None = None,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(means.shape[1], shape, schedule)
        self.weights = weights.double() / weights.double().sum()
        self.means = means.double()
        if covs.ndim == 1:
            covs = covs.double().square()[:, None, None] * torch.eye(self.size).double()
        self.covs = covs.double()
        self.values, self.vectors = torch.linalg.eigh(self.covs)
        self.num_components = len(self.weights)

    def _parts(self, x: Tensor, t: Tensor, cond: Condition | None) -> tuple[Tensor, ...]:
        """Return log joint ``(b, k)``, coordinates and variances ``(b, k, n)``, alpha, sigma."""
        alpha, sigma, _, _ = self._at(t, x)
        shift = self._flat(x)[:, None] - alpha[:, None] * self.means
        z = torch.einsum("bki,kij->bkj", shift, self.vectors)
        variances = alpha.square()[:, None] * self.values + sigma.square()[:, None]
        squares = z.square() / variances + variances.log() + math.log(2 * math.pi)
        log_weights = self.weights.log().expand(len(x), -1)
        if cond is not None and "label" in cond:
            label = cond["label"][:, None]
            chosen = torch.arange(self.num_components) == label
            restricted = torch.zeros_like(log_weights).masked_fill(~chosen, -math.inf)
            log_weights = torch.where(label == self.num_components, log_weights, restricted)
        return log_weights - 0.5 * squares.sum(dim=2), z, variances, alpha, sigma

    def responsibilities(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the posterior probability of each component given ``x_t = x``, ``(b, k)``."""
        return self._parts(x, t, cond)[0].softmax(dim=1)

    def posterior_means(
        self, x: Tensor, t: Tensor, cond: Condition | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return ``E[x_1 | x_t = x]`` and ``E[x_0 | x_t = x]``, each of the shape of ``x``."""
        log_joint, z, variances, alpha, sigma = self._parts(x, t, cond)
        gain = alpha[:, None] * self.values / variances
        data = self.means + torch.einsum("bkj,kij->bki", gain * z, self.vectors)
        noise = torch.einsum("bkj,kij->bki", sigma[:, None] * z / variances, self.vectors)
        posterior = log_joint.softmax(dim=1)[:, :, None]
        means = [(posterior * part).sum(dim=1).reshape(x.shape) for part in (data, noise)]
        return means[0].to(x.dtype), means[1].to(x.dtype)

    def log_density(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the log density of ``x_t`` at ``x``, shape ``(b,)``, in nats."""
        return self._parts(x, t, cond)[0].logsumexp(dim=1).to(x.dtype)

    def score(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the gradient of the log density of ``x_t``, the shape of ``x``."""
        log_joint, z, variances, _, _ = self._parts(x, t, cond)
        parts = torch.einsum("bkj,kij->bki", -z / variances, self.vectors)
        score = (log_joint.softmax(dim=1)[:, :, None] * parts).sum(dim=1)
        return score.reshape(x.shape).to(x.dtype)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Pair:
        """Return ``n`` independent pairs in float64, with the component as ``cond["label"]``."""
        label = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(2, n, self.size, generator=generator, dtype=torch.float64)
        spread = self.vectors * self.values.clamp(min=0).sqrt()[:, None]
        x_1 = self.means[label] + torch.einsum("bij,bj->bi", spread[label], noise[1])
        x_0, x_1 = noise[0].reshape(n, *self.shape), x_1.reshape(n, *self.shape)
        return Pair(x_0, x_1, cond={"label": label})
