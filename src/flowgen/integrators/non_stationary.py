"""A solver whose every step has numbers of its own, fitted to one model and one number of steps.

Any explicit method that evaluates once a step ends in ``x_(i+1) = r_i x_i + sum_(j<=i) w_ij v_j``
with the velocities ``v_0 .. v_i`` it has seen; Adams-Bashforth and the exponential multistep
methods are special cases. Here ``r`` and ``w`` are free.

Source: Shaul et al. 2024 (bespoke non-stationary solvers), arXiv 2403.01329, section 3.
"""

import copy
import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.stepper import Leg, Stepper, Time, accumulating, evaluate


class NonStationary:
    """Steps with given weights, for a grid of as many steps; made by :func:`fit_solver`.

    Args:
        weights: Row ``i`` holds the ``i + 1`` weights of the velocities known in step ``i``.
        scales: The factor ``r_i`` on the state in each step.

    Attributes:
        order: 0: it is fitted to one number of steps, so nothing converges.

    Raises:
        InputError: If the numbers do not form steps.
    """

    order = 0

    def __init__(self, weights: Sequence[Sequence[float]], scales: Sequence[float]) -> None:
        rows = [[float(value) for value in row] for row in weights]
        if not rows or len(rows) != len(scales):
            raise InputError(
                f"weights and scales must be of each step, got {len(rows)} and {len(scales)}"
            )
        if [len(row) for row in rows] != list(range(1, len(rows) + 1)):
            raise InputError("row i of weights must hold i + 1 numbers, one per known velocity")
        if not all(math.isfinite(value) for row in [*rows, scales] for value in row):
            raise InputError("weights and scales must be finite")
        self.weights = rows
        self.scales = [float(value) for value in scales]
        self._slopes: list[Tensor] | None = None

    def begin(self, field: VelocityField, x: Float[Tensor, "b *d"], leg: Leg) -> Stepper:
        """Return the same solver at its first step.

        Raises:
            InputError: If the trajectory has another number of steps, another direction, or is
                interrupted where the field changes its form.
        """
        del field, x
        count = len(self.weights)
        if len(leg.nodes) - 1 != count or leg.num_steps != count or leg.nodes[0] > leg.nodes[-1]:
            raise InputError(
                f"this solver was fitted to {count} steps from source to data in one go: sample "
                "so, or use another sampler such as sampler=heun"
            )
        fresh = copy.copy(self)
        fresh._slopes = []
        return fresh

    def step(
        self,
        field: VelocityField,
        x: Float[Tensor, "b *d"],
        s: Time,
        t: Time,
        cond: Condition | None = None,
    ) -> Float[Tensor, "b *d"]:
        """Return the state after the next step.

        Args:
            field: The velocity.
            x: States ``(b, *d)`` at time ``s``.
            s: Where the step starts.
            t: Where it ends; it does not enter, the fitted weights hold it.
            cond: Conditions of the rows.

        Raises:
            InputError: If it was not begun for a trajectory.
        """
        del t
        if self._slopes is None:
            raise InputError("this solver was fitted to whole trajectories: integrate it")
        x = accumulating(x)
        self._slopes.append(evaluate(field, x, s, cond))
        index = len(self._slopes) - 1
        x = self.scales[index] * x
        for weight, slope in zip(self.weights[index], self._slopes, strict=True):
            x = x + weight * slope
        return x

    def __repr__(self) -> str:
        return f"NonStationary({len(self.weights)} steps)"
