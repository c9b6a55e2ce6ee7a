"""How much noise a stochastic sampler adds, as a rate ``w(t) >= 0``.

``dX = [v + w s] dt + sqrt(2 w) dW`` with the score ``s`` has the marginals of the path for any
``w``; 0 is the ODE. The score grows as ``1 / sigma``, so only a ``w`` of the order of ``sigma``
leaves the drift bounded near the data: with others, start the last step where noise is left.

Source: Ma et al. 2024 (SiT), arXiv 2401.08740, sections 2.2 and 3.4; Albergo et al. 2023,
arXiv 2303.08797.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flowgen.core import InputError
from flowgen.integrators.points import Point


@runtime_checkable
class Diffusion(Protocol):
    """The rate of noise at a point of the path."""

    def __call__(self, point: Point) -> float:
        """Return ``w >= 0`` in units of the state squared per unit of time."""
        ...


def _check(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise InputError(f"{name} must be finite and >= 0, got {value}")


@dataclass(frozen=True)
class _Scaled:
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the scale."""
        _check("scale", self.scale)


@dataclass(frozen=True)
class ConstantDiffusion(_Scaled):
    """``w = scale``.

    Args:
        scale: At least 0; at 0 there is no noise.
    """

    def __call__(self, point: Point) -> float:
        """Return the rate."""
        del point
        return self.scale


@dataclass(frozen=True)
class SigmaDiffusion(_Scaled):
    """``w = scale sigma``: as much noise as the path has; the drift stays bounded at the data.

    Args:
        scale: At least 0; at 0 there is no noise.
    """

    def __call__(self, point: Point) -> float:
        """Return the rate."""
        return self.scale * point.sigma


@dataclass(frozen=True)
class LinearDiffusion(_Scaled):
    """``w = scale (1 - t)``.

    Args:
        scale: At least 0; at 0 there is no noise.
    """

    def __call__(self, point: Point) -> float:
        """Return the rate."""
        return self.scale * (1 - point.t)


@dataclass(frozen=True)
class ReverseDiffusion(_Scaled):
    """``w = scale sigma W / alpha``, ``W`` the Wronskian: the reverse SDE of diffusion models.

    ``W / alpha`` is infinite at pure noise; ``alpha`` counts as ``floor`` at least, which is some
    other rate near the start and so as exact.

    Args:
        scale: At least 0; at 0 there is no noise.
        floor: Smallest ``alpha`` to divide by, in ``(0, 1]``. Steps near the start must be short
            beside it.

    Source: Song et al. 2021, arXiv 2011.13456, eq. 6, in the form of SiT ("SBDM").
    """

    floor: float = 0.1

    def __post_init__(self) -> None:
        """Check scale and floor."""
        super().__post_init__()
        if not 0 < self.floor <= 1:
            raise InputError(f"floor must be in (0, 1], got {self.floor}")

    def __call__(self, point: Point) -> float:
        """Return the rate."""
        return self.scale * point.sigma * point.wronskian / max(point.alpha, self.floor)


@dataclass(frozen=True)
class DecreasingDiffusion(_Scaled):
    """``w = (scale cos(pi t) + 1)^2 / 4``: for ``scale = 1`` from 1 at the source to 0 at the data.

    Args:
        scale: At least 0.
    """

    def __call__(self, point: Point) -> float:
        """Return the rate."""
        return 0.25 * (self.scale * math.cos(math.pi * point.t) + 1) ** 2


@dataclass(frozen=True)
class BumpDiffusion(_Scaled):
    """``w = scale sin(pi t)^2``: nothing at both ends.

    Args:
        scale: At least 0; at 0 there is no noise.
    """

    def __call__(self, point: Point) -> float:
        """Return the rate."""
        return self.scale * math.sin(math.pi * point.t) ** 2
