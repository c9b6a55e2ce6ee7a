"""Variance-preserving schedules of diffusion models: ``alpha^2 + sigma^2 = 1``.

Discrete diffusion counts from data to noise; here ``u = 1 - t`` is the fraction of that way. All
three have ``sigma ~ sqrt(1 - t)`` near the data, so ``d_sigma`` is infinite at ``t = 1`` and their
domain ends ``SINGULAR_GAP`` before it. Products such as ``(1 - t)(1 + t)`` are kept factored: the
difference ``1 - alpha^2`` would lose half of the digits of ``sigma`` there.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError
from flowgen.paths.schedule import SINGULAR_GAP, Schedule


class LinearVP(Schedule):
    """``alpha = t``, ``sigma = sqrt(1 - t^2)``; ends at ``t = 1 - 1e-5`` with ``sigma = 0.0045``.

    Source: Lipman et al. 2024, arXiv 2412.06264, section 4.8 (linear variance preserving).
    """

    domain = (0.0, 1.0 - SINGULAR_GAP)

    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients; see :meth:`Schedule.forward`."""
        sigma = ((1 - t) * (1 + t)).sqrt()
        return Coefficients(t, sigma, torch.ones_like(t), -t / sigma)

    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time of a ratio; see :meth:`Schedule.time_of`."""
        return self._into_domain(alpha / torch.hypot(alpha, sigma))


class VP(Schedule):
    """``alpha = exp(-T / 2)``, ``sigma = sqrt(1 - exp(-T))``, ``T`` the integral of beta from data.

    ``T = u^2 (beta_max - beta_min) / 2 + u beta_min``, ``u = 1 - t``. It ends at ``t = 1 - 1e-5``
    with ``sigma = sqrt(1e-5 beta_min)``, 0.001 for the defaults. At ``t = 0`` some data is left:
    ``alpha(0) = exp(-(beta_min + beta_max) / 4)``, 0.0066 for the defaults.

    Args:
        beta_min: Noise rate at the data, above 0.
        beta_max: Noise rate at the source, at least ``beta_min``.

    Raises:
        InputError: If not ``0 < beta_min <= beta_max``.

    Source: Song et al. 2021, arXiv 2011.13456, eq. 33.
    """

    domain = (0.0, 1.0 - SINGULAR_GAP)

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        super().__init__()
        if not 0 < beta_min <= beta_max < math.inf:
            raise InputError(
                f"beta_min and beta_max must satisfy 0 < beta_min <= beta_max, "
                f"got {beta_min} and {beta_max}"
            )
        self.beta_min = float(beta_min)
        self.beta_max = float(beta_max)

    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients; see :meth:`Schedule.forward`."""
        u = 1 - t
        growth = self.beta_max - self.beta_min
        total = u * (self.beta_min + u * growth / 2)
        beta = self.beta_min + u * growth
        alpha = torch.exp(-total / 2)
        sigma = (-torch.expm1(-total)).sqrt()
        return Coefficients(alpha, sigma, beta * alpha / 2, -beta * alpha.square() / (2 * sigma))

    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time of a ratio; see :meth:`Schedule.time_of`."""
        largest = (self.beta_min + self.beta_max) / 2
        total = torch.log1p((sigma / alpha).square()).clamp(max=largest)
        growth = self.beta_max - self.beta_min
        # The root of the quadratic in the form without cancellation, right also for growth = 0.
        root = (self.beta_min**2 + 2 * growth * total).sqrt()
        return self._into_domain(1 - 2 * total / (self.beta_min + root))


class Cosine(Schedule):
    """``alpha = sin(k t) / sin(k)``, ``k = pi / (2 (1 + offset))``; ``sigma^2 = 1 - alpha^2``.

    This is ``alpha^2 = cos^2((u + s)/(1 + s) pi/2) / cos^2(s/(1 + s) pi/2)`` with ``u = 1 - t`` and
    ``s = offset``. It ends at ``t = 1 - 1e-5`` with ``sigma = 0.0006`` for the default.

    The paper clips each discrete ``beta`` to at most 0.999. That acts on the last of its 1000 steps
    alone, where it makes ``alpha`` 5e-5 in place of 0, to keep a division finite. A continuous time
    has no steps to clip and nothing here divides by ``alpha``, so ``alpha(0) = 0`` and no clip.

    Args:
        offset: The paper's ``s``, above 0: keeps the noise from vanishing too fast near the data.

    Raises:
        InputError: If ``offset`` is not positive.

    Source: Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17.
    """

    domain = (0.0, 1.0 - SINGULAR_GAP)

    def __init__(self, offset: float = 0.008) -> None:
        super().__init__()
        if not 0 < offset < math.inf:
            raise InputError(f"offset must be positive, got {offset}")
        self.offset = float(offset)
        self.rate = math.pi / (2 * (1 + self.offset))

    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients; see :meth:`Schedule.forward`."""
        k, end = self.rate, math.sin(self.rate)
        alpha = torch.sin(k * t) / end
        d_alpha = k * torch.cos(k * t) / end
        sigma = (torch.sin(k * (1 - t)) * torch.sin(k * (1 + t))).sqrt() / end
        return Coefficients(alpha, sigma, d_alpha, -alpha * d_alpha / sigma)

    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time of a ratio; see :meth:`Schedule.time_of`."""
        sine = alpha * math.sin(self.rate)
        cosine = torch.hypot(sigma, alpha * math.cos(self.rate))
        return self._into_domain(torch.atan2(sine, cosine) / self.rate)
