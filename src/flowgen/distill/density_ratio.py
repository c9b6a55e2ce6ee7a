"""Other divergences than the reverse Kullback-Leibler, by a weight of each sample.

For ``D_f(data || samples)`` the gradient of distribution matching is weighed by ``h(r) = r^2
f''(r)`` at ``r = p_data / p_samples``, which a critic's head knows. Reverse Kullback-Leibler has
``h = 1`` and forgives missing modes; those that do not count samples in places that are too thin.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError


@runtime_checkable
class Divergence(Protocol):
    """The weight ``h(r)`` of an f-divergence."""

    def __call__(self, ratio: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return ``h (b,)`` at density ratios ``ratio (b,)`` of data to samples, above 0."""
        ...


class ForwardKL:
    """``h(r) = r``: ``KL(data || samples)``, covers all modes.

    Source: Xu et al. 2025, arXiv 2502.15681, table 1.
    """

    def __call__(self, ratio: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return ``r``."""
        return ratio


class JensenShannon:
    """``h(r) = r / (1 + r)``: between both, at most 1.

    Source: Xu et al. 2025, arXiv 2502.15681, table 1.
    """

    def __call__(self, ratio: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return ``r / (1 + r)``."""
        return ratio / (1 + ratio)


class DensityRatio:
    """Weights of samples from logits of a critic, with a mean of 1 over each bin of times.

    Args:
        divergence: :class:`ForwardKL` if None.
        low: Smallest ratio, > 0.
        high: Largest ratio, above ``low``.
        num_bins: Equal bins of time in which weights are comparable, at least 1.

    Raises:
        InputError: If a number leaves its range.

    Source: Xu et al. 2025 (f-distill), arXiv 2502.15681, section 3.
    """

    def __init__(
        self,
        divergence: Divergence | None = None,
        *,
        low: float = 0.1,
        high: float = 20.0,
        num_bins: int = 10,
    ) -> None:
        if not 0 < low < high:
            raise InputError(f"low and high must satisfy 0 < low < high, got {low}, {high}")
        if num_bins < 1:
            raise InputError(f"num_bins must be >= 1, got {num_bins}")
        self.divergence: Divergence = ForwardKL() if divergence is None else divergence
        self.low, self.high, self.num_bins = float(low), float(high), int(num_bins)

    @torch.no_grad()
    def __call__(self, logits: Float[Tensor, " b"], t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the weights ``(b,)`` of rows with logits ``(b,)`` at times ``t (b,)``."""
        h = self.divergence(logits.exp().clamp(self.low, self.high))
        bins = (t * self.num_bins).long().clamp(0, self.num_bins - 1)
        zero = torch.zeros(self.num_bins, dtype=h.dtype, device=h.device)
        total = zero.index_add(0, bins, h)
        count = zero.index_add(0, bins, torch.ones_like(h))
        return h / (total / count.clamp(min=1))[bins]
