"""What a stochastic sampler does in its last step, in which no noise is added any more.

Noise added there would stay in the sample. Ma et al. 2024 (SiT, arXiv 2401.08740) end with a longer
step of one of these kinds, 0.04 after 250 steps.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from flowgen.integrators.points import Point


@runtime_checkable
class LastStep(Protocol):
    """The step from ``here`` to the end of the grid."""

    def __call__(self, x: Tensor, v: Tensor, w: float, here: Point, there: Point) -> Tensor:
        """Return the state ``(b, *d)`` at ``there``.

        Args:
            x: States ``(b, *d)`` at ``here``.
            v: Their velocities ``(b, *d)``.
            w: Rate of noise at ``here``.
            here: Where the step starts, with noise left.
            there: Where it ends.
        """
        ...


@dataclass(frozen=True)
class LastMean:
    """The mean of one more stochastic step: ``x + h (v + w s)``."""

    def __call__(self, x: Tensor, v: Tensor, w: float, here: Point, there: Point) -> Tensor:
        """Return the state at ``there``."""
        return x + (there.t - here.t) * (v + w * here.score(x, v))


@dataclass(frozen=True)
class LastEuler:
    """A step of the ODE: ``x + h v``."""

    def __call__(self, x: Tensor, v: Tensor, w: float, here: Point, there: Point) -> Tensor:
        """Return the state at ``there``."""
        del w
        return x + (there.t - here.t) * v


@dataclass(frozen=True)
class LastTweedie:
    """The mean of the data given the state, ``alpha' E[x_1 | x_t]``: all noise is taken out."""

    def __call__(self, x: Tensor, v: Tensor, w: float, here: Point, there: Point) -> Tensor:
        """Return the state at ``there``."""
        del w
        return there.alpha * here.data(x, v)
