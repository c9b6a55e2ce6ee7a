"""How much latent noise a path has at each time: ``gamma(t)``, 0 at both ends.

``sqrt(t (1 - t))`` is what a Brownian bridge has: its velocity grows without bound at both ends, as
``t^(-1/2)``, while that of the other two stays finite.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import InputError


class LatentNoise(nn.Module, ABC):
    """A deviation ``gamma(t)`` of latent noise.

    Args:
        scale: Factor on it, in units of the data, > 0.

    Raises:
        InputError: If ``scale`` is not > 0 and finite.

    Source: Albergo, Boffi and Vanden-Eijnden 2023, arXiv 2303.08797, section 4.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise InputError(f"scale of latent noise must be > 0 and finite, got {scale}")
        self.scale = float(scale)

    @abstractmethod
    def forward(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return ``gamma`` and its derivative at times ``t (b,)``, each ``(b,)``."""


class BrownianBridge(LatentNoise):
    """``scale sqrt(t (1 - t))``: the deviation of Brownian motion of that scale, tied at both ends.

    Given the ends it is their Schroedinger bridge; with the entropic pairs of
    ``epsilon = 2 scale^2`` (``coupling=entropic_bridge``) it is that between both distributions.
    """

    def forward(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return ``gamma`` and its derivative, which is infinite at 0 and 1."""
        gamma = self.scale * (t * (1 - t)).sqrt()
        return gamma, self.scale**2 * (1 - 2 * t) / (2 * gamma)


class Parabola(LatentNoise):
    """``scale t (1 - t)``."""

    def forward(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return ``gamma`` and its derivative."""
        return self.scale * t * (1 - t), self.scale * (1 - 2 * t)


class SquaredSine(LatentNoise):
    """``scale sin^2(pi t)``: noise comes and goes with slope 0."""

    def forward(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return ``gamma`` and its derivative."""
        angle = math.pi * t
        slope = self.scale * math.pi * torch.sin(2 * angle)
        return self.scale * torch.sin(angle).square(), slope
