"""EDM's Heun steps: the trapezoidal rule in the noise level instead of the time.

With the level ``s = sigma / alpha`` the rescaled state ``y = x / alpha`` moves by ``dy/ds = e``,
``e = E[x_0 | x_t]``: along a straight line wherever the noise guess is constant, at any scale of
the path. Where ``alpha`` is 0 at an end of the step, ``s`` is infinite and the step is the same
rule for ``x / sigma``, which moves by ``d(x / sigma) / d(alpha / sigma) = E[x_1 | x_t]``.

Source: Karras et al. 2022, arXiv 2206.00364, algorithm 1.
"""

import copy

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, VelocityField
from flowgen.integrators.points import Point, Points, affine_path
from flowgen.integrators.stepper import Leg, Time, accumulating, evaluate


class EDMHeun:
    """Order 2 with two evaluations a step, one in a step to ``sigma = 0``, which is Euler's."""

    order = 2
    needs_affine_path = True

    def __init__(self) -> None:
        self._points: Points | None = None

    def begin(self, field: VelocityField, x: Float[Tensor, "b *d"], leg: Leg) -> "EDMHeun":
        """Return the same method with the path's numbers at the nodes of one leg.

        Raises:
            InputError: If the field does not carry an affine path.
        """
        fresh = copy.copy(self)
        fresh._points = Points(affine_path(field, self), accumulating(x), leg.nodes)
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
            t: Where it ends, in ``[0, 1]``; smaller than ``s`` to go backwards.
            cond: Conditions of the rows.

        Returns:
            States ``(b, *d)`` at ``t``, float32 at least.

        Raises:
            InputError: If the field does not carry an affine path.
        """
        x = accumulating(x)
        points = self._points or Points(affine_path(field, self), x)
        return level_heun(field, x, points.at(s), points.at(t), cond)

    def __repr__(self) -> str:
        return "EDMHeun()"


def level_heun(
    field: VelocityField,
    x: Float[Tensor, "b *d"],
    here: Point,
    there: Point,
    cond: Condition | None,
) -> Float[Tensor, "b *d"]:
    """Return the state at ``there`` by one Heun step in the noise level.

    Args:
        field: The velocity.
        x: States ``(b, *d)`` at ``here``, float32 or float64.
        here: Where the step starts.
        there: Where it ends.
        cond: Conditions of the rows.
    """
    levels = here.alpha > 0 and there.alpha > 0

    def slope(point: Point, state: Tensor) -> Tensor:
        v = evaluate(field, state, point.asked, cond)
        return point.noise(state, v) if levels else point.data(state, v)

    if levels:
        stretch, width = there.alpha / here.alpha, there.alpha * (there.level - here.level)
    else:
        stretch = there.sigma / here.sigma
        width = there.alpha - stretch * here.alpha
    first = slope(here, x)
    predicted = stretch * x + width * first
    if there.sigma == 0:
        return predicted
    return stretch * x + (width / 2) * (first + slope(there, predicted))
