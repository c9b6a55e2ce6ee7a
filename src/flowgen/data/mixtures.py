"""Mixtures of isotropic Gaussians, the toy data with a known density.

``p(x) = sum_k w_k N(x; m_k, s_k^2 I)``. Their flow-matching velocity, score and posterior means are
closed forms, so they serve as data, as source, and as oracle.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError


class Mixture:
    """A mixture of isotropic Gaussians by table.

    Args:
        means: Centre of each component, ``k`` rows of ``d`` numbers.
        stds: Standard deviation of each component, or one for all; > 0.
        weights: Weight of each component, >= 0 with a positive sum (normalised), None for equal.

    Raises:
        InputError: If the tables do not fit together or a value is out of range.
    """

    def __init__(
        self,
        means: Sequence[Sequence[float]],
        stds: float | Sequence[float],
        weights: Sequence[float] | None = None,
    ) -> None:
        rows = [[float(entry) for entry in row] for row in means]
        if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
            raise InputError("means must be a table: one or more rows of equal length >= 1")
        count = len(rows)
        widths = [float(s) for s in stds] if isinstance(stds, Sequence) else [float(stds)] * count
        shares = [1.0] * count if weights is None else [float(weight) for weight in weights]
        if len(widths) != count or not all(0.0 < width < math.inf for width in widths):
            raise InputError(f"stds must be 1 or {count} finite numbers > 0, got {stds}")
        if len(shares) != count or min(shares) < 0 or not 0.0 < sum(shares) < math.inf:
            raise InputError(
                f"weights must be {count} numbers >= 0 with a positive sum, got {weights}"
            )
        self.means = torch.tensor(rows, dtype=torch.float64)
        self.stds = torch.tensor(widths, dtype=torch.float64)
        self.weights = torch.tensor(shares, dtype=torch.float64) / sum(shares)
        if not bool(self.means.isfinite().all()):
            raise InputError("means must be finite")
        self.shape: tuple[int, ...] = (len(rows[0]),)

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return ``n`` samples, float32 ``(n, d)``; the generator lives on ``device``."""
        means = self.means.to(device=device, dtype=torch.float32)
        stds = self.stds.to(device=device, dtype=torch.float32)
        weights = self.weights.to(device=device, dtype=torch.float32)
        which = torch.multinomial(weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, *self.shape, generator=generator, device=device)
        return means[which] + stds[which, None] * noise

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the exact log density at ``x (n, d)``, shape ``(n,)``, in the dtype of ``x``.

        Raises:
            InputError: If ``x`` does not have the dimension of the mixture.
        """
        if x.shape[1:] != self.shape:
            raise InputError(f"x must have shape (n, {self.shape[0]}), got {tuple(x.shape)}")
        means, stds, weights = (
            table.to(device=x.device, dtype=x.dtype)
            for table in (self.means, self.stds, self.weights)
        )
        squared = (x[:, None] - means).square().sum(dim=2) / stds.square()
        norm = self.shape[0] * (0.5 * math.log(2.0 * math.pi) + stds.log())
        return torch.logsumexp(weights.log() - norm - 0.5 * squared, dim=1)


class EightGaussians(Mixture):
    """Equal Gaussians on a circle, the first one on the positive x axis.

    The default numbers are those of the benchmark of Tong et al. (torchdyn's "gaussians"). The
    torchcfm tutorials use others under the same name (a covariance of ``sqrt(0.1)``, that is
    ``std=0.562``); figures of the two families cannot be compared.

    Args:
        radius: Of the circle, > 0.
        std: Of each mode, > 0.
        num_modes: How many, >= 1.

    Raises:
        InputError: If an argument is out of range.

    Source: Tong et al. 2023, arXiv 2302.00482, section 5.1.
    """

    def __init__(self, radius: float = 5.0, std: float = 1.0, num_modes: int = 8) -> None:
        if not 0.0 < radius < math.inf:
            raise InputError(f"radius must be finite and > 0, got {radius}")
        if num_modes < 1:
            raise InputError(f"num_modes must be >= 1, got {num_modes}")
        angles = [2.0 * math.pi * mode / num_modes for mode in range(num_modes)]
        super().__init__([[radius * math.cos(a), radius * math.sin(a)] for a in angles], std)
