"""What the stochastic steppers share: the numbers of the path and random ones, for one leg.

All of them use that noise in the state is standard normal given the data, to take some out and put
fresh noise in. That holds for a standard normal source and a coupling that leaves it independent of
the data (``score_valid``); for others the result has the wrong law, with no sign of it.
"""

import copy
import math
from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.noise import Noise
from flowgen.integrators.points import Point, Points, affine_path
from flowgen.integrators.stepper import Leg, Time, accumulating


class StochasticStepper(ABC):
    """A stepper that draws noise; runs from source to data only.

    Attributes:
        order: Order of accuracy of means of the result (weak order).
    """

    order: int = 1
    stochastic = True
    needs_affine_path = True

    def __init__(self) -> None:
        self._leg: Leg | None = None
        self._points: Points | None = None

    def begin(
        self, field: VelocityField, x: Float[Tensor, "b *d"], leg: Leg
    ) -> "StochasticStepper":
        """Return the same method with the noise of one leg.

        Raises:
            InputError: If there is no noise, the leg runs backwards, or the field does not carry
                an affine path.
        """
        if leg.noise is None:
            raise InputError(f"{self!r} draws random numbers: pass noise=Noise(seed, numbers)")
        if leg.nodes[-1] < leg.nodes[0]:
            raise InputError(
                f"{self!r} runs from source to data only: use an ODE stepper such as Heun() for "
                "the way back"
            )
        fresh = copy.copy(self)
        fresh._points = Points(affine_path(field, self), accumulating(x), leg.nodes)
        fresh._leg = leg
        return fresh

    def step(
        self,
        field: VelocityField,
        x: Float[Tensor, "b *d"],
        s: Time,
        t: Time,
        cond: Condition | None = None,
    ) -> Float[Tensor, "b *d"]:
        """Return the state at time ``t``.

        Args:
            field: The velocity; it must carry its affine path as ``path``.
            x: States ``(b, *d)`` at time ``s``.
            s: Where the step starts, in ``[0, 1]``.
            t: Where it ends, in ``[0, 1]``, above ``s``.
            cond: Conditions of the rows.

        Returns:
            States ``(b, *d)`` at ``t``, float32 at least.

        Raises:
            InputError: If it was not begun for a trajectory, and so has no random numbers.
        """
        if self._points is None or self._leg is None or self._leg.noise is None:
            raise InputError(f"{self!r} draws random numbers: integrate it with noise=")
        here, there = self._points.at(s), self._points.at(t)
        last = self._leg.final and float(t) == self._leg.nodes[-1]
        return self._move(field, accumulating(x), here, there, cond, self._leg.noise, last)

    @abstractmethod
    def _move(
        self,
        field: VelocityField,
        x: Tensor,
        here: Point,
        there: Point,
        cond: Condition | None,
        noise: Noise,
        last: bool,
    ) -> Tensor:
        """Return the state at ``there``; ``last`` says whether the trajectory ends with it."""


def renoised(
    x: Float[Tensor, "b *d"], here: Point, there: Point, noise: Noise, scale: float = 1.0
) -> Float[Tensor, "b *d"]:
    """Return states of the earlier point ``there``, made of those at ``here`` by adding noise.

    ``x' = r x + sqrt(sigma'^2 - r^2 sigma^2) xi`` with ``r = alpha' / alpha``, exact in law.

    Args:
        x: States ``(b, *d)`` at ``here``.
        here: A point of the path, with ``alpha > 0``.
        there: An earlier one.
        noise: Random numbers of the rows.
        scale: Factor on the noise, about 1.

    Source: Karras et al. 2022, arXiv 2206.00364, algorithm 2, for any affine path.
    """
    ratio = there.alpha / here.alpha
    variance = max(there.sigma**2 - (ratio * here.sigma) ** 2, 0.0)
    return ratio * x + (scale * math.sqrt(variance)) * noise.like(x)
