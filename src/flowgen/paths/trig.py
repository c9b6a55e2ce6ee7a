"""The trigonometric path: a quarter turn from noise to data at constant speed."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients
from flowgen.paths.schedule import Schedule


class Trig(Schedule):
    """``alpha = sin(pi t / 2)``, ``sigma = cos(pi t / 2)``; ``alpha^2 + sigma^2 = 1``.

    Source: Albergo and Vanden-Eijnden 2023, arXiv 2209.15571 ("GVP" in Ma et al. 2024,
        arXiv 2401.08740).
    """

    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients; see :meth:`Schedule.forward`."""
        rate = math.pi / 2
        alpha = torch.sin(rate * t)
        # The cosine of the rounded pi / 2 is negative in float32; the sine of 0 is 0.
        sigma = torch.sin(rate * (1 - t))
        return Coefficients(alpha, sigma, rate * sigma, -rate * alpha)

    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time of a ratio; see :meth:`Schedule.time_of`."""
        return self._into_domain(torch.atan2(alpha, sigma) * (2 / math.pi))
