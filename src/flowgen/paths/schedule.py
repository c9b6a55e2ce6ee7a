"""What a schedule is: how much data and how much noise a state holds at each time.

``x_t = alpha_t x_1 + sigma_t x_0`` with ``t = 0`` at the source and ``t = 1`` at the data. Two
affine paths differ only in the pace at which they visit the ratios ``snr = alpha / sigma`` and in a
scale, so each schedule can also say at what time it has a given ratio. The ratio is passed around
as the pair ``(alpha, sigma)``, of which any positive multiple means the same: it stays finite where
``snr`` itself is infinite (no noise left).
"""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import Coefficients

SINGULAR_GAP = 1e-5
"""Distance in ``t`` kept from an end of ``[0, 1]`` where a slope is infinite.

Small enough that what is left out cannot be seen (the noise left by LinearVP is 0.0045, half a grey
level of an 8-bit image in [-1, 1]; VP and Cosine leave less); large enough that float32 times
resolve the gap itself to 0.3 %.
"""


class Schedule(nn.Module, ABC):
    """Coefficients of an affine path; ``alpha / sigma`` grows with ``t``.

    Attributes:
        domain: Closed range of ``t`` inside ``[0, 1]`` where all four coefficients are finite.
    """

    domain: tuple[float, float] = (0.0, 1.0)

    @abstractmethod
    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients and their time derivatives.

        Args:
            t: Times in ``domain``, shape ``(b,)``, float32 or float64.

        Returns:
            Four tensors of the shape and dtype of ``t``.
        """

    @abstractmethod
    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time at which the schedule has the ratio ``alpha : sigma``.

        Args:
            alpha: Non-negative, shape ``(b,)``; only the ratio to ``sigma`` matters.
            sigma: Non-negative, shape ``(b,)``, not 0 where ``alpha`` is 0.

        Returns:
            Times in ``domain``; a ratio that the schedule never has gives the nearer end.
        """

    def snr(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return ``alpha / sigma`` (not squared), infinite where no noise is left."""
        c = self(t)
        return c.alpha / c.sigma

    def log_snr(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return ``2 log(alpha / sigma)``, the logarithm of the ratio of powers, in nats."""
        c = self(t)
        return 2 * (c.alpha.log() - c.sigma.log())

    def snr_inverse(self, snr: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the time at which ``alpha / sigma = snr``.

        Args:
            snr: Non-negative, infinity included, shape ``(b,)``.

        Returns:
            Times in ``domain``; an ``snr`` that the schedule never has gives the nearer end.
        """
        # This pair has the ratio snr exactly and both entries in [0, 1], so infinity is harmless.
        return self.time_of(snr.clamp(max=1), 1 / snr.clamp(min=1))

    def _into_domain(self, t: Tensor) -> Tensor:
        return t.clamp(*self.domain)
