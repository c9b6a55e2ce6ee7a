"""Adams-Bashforth methods: one evaluation in a step, order from the velocities of former steps.

The velocity is interpolated by a polynomial through its last ``p`` values, and the polynomial is
integrated over the step; nodes may lie at any distances. The first ``p - 1`` steps have no history
yet and are Runge-Kutta steps of order ``p - 1``, which is what keeps the method at order ``p``: a
single step of order ``p - 1`` errs by ``O(h^p)``, and their number does not grow.

Source: Hairer, Norsett and Wanner 1993, "Solving Ordinary Differential Equations I", III.1 and 5.
"""

import copy
from collections import deque

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.interpolation import weights_of
from flowgen.integrators.runge_kutta import Euler, Heun, Kutta3, RungeKutta
from flowgen.integrators.stepper import Leg, Time, accumulating, evaluate

_STARTS: dict[int, type[RungeKutta]] = {2: Euler, 3: Heun, 4: Kutta3}


class AdamsBashforth:
    """The method of order 2, 3 or 4, for steps of any sizes.

    A leg of ``n`` steps costs ``n`` evaluations at order 2, ``n + 2`` at order 3 and ``n + 6`` at
    order 4. A step outside of a trajectory has no history and is a starting step.

    Args:
        order: 2, 3 or 4.

    Raises:
        InputError: If there is no method of that order.
    """

    def __init__(self, order: int = 2) -> None:
        if order not in _STARTS:
            raise InputError(f"order must be 2, 3 or 4, got {order}")
        self.order = order
        self._start = _STARTS[order]()
        self._slopes: deque[tuple[float, Tensor]] | None = None

    def begin(self, field: VelocityField, x: Float[Tensor, "b *d"], leg: Leg) -> "AdamsBashforth":
        """Return the same method without history, for one leg."""
        del field, x, leg
        fresh = copy.copy(self)
        fresh._slopes = deque(maxlen=self.order)
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
            field: The velocity.
            x: States ``(b, *d)`` at time ``s``.
            s: Where the step starts, in ``[0, 1]``: where the step before it has ended.
            t: Where it ends, in ``[0, 1]``; smaller than ``s`` to go backwards.
            cond: Conditions of the rows.

        Returns:
            States ``(b, *d)`` at ``t``, float32 at least.
        """
        x = accumulating(x)
        if self._slopes is None:
            return self._start.step(field, x, s, t, cond)
        if len(self._slopes) < self.order - 1:
            x, slope = self._start.step_with_slope(field, x, s, t, cond)
            self._slopes.append((float(s), slope))
            return x
        self._slopes.append((float(s), evaluate(field, x, s, cond)))
        h = float(t) - float(s)
        places = [(time - float(s)) / h for time, _ in self._slopes]
        moments = [1 / (k + 1) for k in range(self.order)]
        for weight, (_, slope) in zip(weights_of(places, moments), self._slopes, strict=True):
            x = x + (h * weight) * slope
        return x

    def __repr__(self) -> str:
        return f"AdamsBashforth({self.order})"
