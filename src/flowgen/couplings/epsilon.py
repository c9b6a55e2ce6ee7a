"""The strength of an entropic plan, in three units.

The entropic plan minimises ``<P, C> + epsilon KL(P | a b)``. Solvers here work on the cost
``-x . y`` of centred clouds, which differs from ``|x - y|^2 / 2`` by terms of one side alone; these
move the potentials and not the plan. So an ``epsilon`` for ``|x - y|^2`` is twice that for
``-x . y``.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flowgen.core import InputError


@runtime_checkable
class Epsilon(Protocol):
    """A strength of entropic transport."""

    def __call__(self, std: float) -> float:
        """Return it for the cost ``-x . y``, whose standard deviation is ``std``; > 0."""
        ...


@dataclass(frozen=True)
class RelativeEpsilon:
    """A multiple of the standard deviation of the cost ``-x . y`` of all pairs.

    The same number means the same blur for all data sets, scales and dimensions: 1 is near to
    independent pairs, 0.01 near to an assignment.

    Args:
        value: Of the standard deviation, > 0.

    Raises:
        InputError: If ``value`` is not > 0 and finite.

    Source: Zhang et al. 2025, arXiv 2506.05526.
    """

    value: float

    def __post_init__(self) -> None:
        """Check the number."""
        _check("epsilon", self.value)

    def __call__(self, std: float) -> float:
        """Return ``value std``; without spread all plans cost the same and 1 will do."""
        return self.value * std if std > 0 else 1.0


@dataclass(frozen=True)
class AbsoluteEpsilon:
    """A strength in squared units of the data: that of the cost ``|x - y|^2``.

    Args:
        value: > 0.

    Raises:
        InputError: If ``value`` is not > 0 and finite.
    """

    value: float

    def __post_init__(self) -> None:
        """Check the number."""
        _check("epsilon", self.value)

    def __call__(self, std: float) -> float:
        """Return ``value / 2``."""
        del std
        return self.value / 2


@dataclass(frozen=True)
class BridgeEpsilon:
    """The strength at which entropic pairs are the ends of a Schroedinger bridge.

    The bridge whose reference is Brownian motion of scale ``sigma`` has the entropic plan of
    ``epsilon = 2 sigma^2`` for ``|x - y|^2`` at its ends.

    Args:
        sigma: Of the bridge, in units of the data, > 0: the same number as in its path.

    Raises:
        InputError: If ``sigma`` is not > 0 and finite.

    Source: Tong et al. 2024, arXiv 2302.00482, section 4.3 (SB-CFM).
    """

    sigma: float

    def __post_init__(self) -> None:
        """Check the number."""
        _check("sigma", self.sigma)

    def __call__(self, std: float) -> float:
        """Return ``sigma^2``."""
        del std
        return self.sigma**2


def epsilon_of(epsilon: float | Epsilon) -> Epsilon:
    """Return ``epsilon``; a number is in standard deviations of the cost.

    Raises:
        InputError: If the number is not > 0 and finite.
    """
    return RelativeEpsilon(epsilon) if isinstance(epsilon, float | int) else epsilon


def _check(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InputError(f"{name} must be > 0 and finite, got {value}")
