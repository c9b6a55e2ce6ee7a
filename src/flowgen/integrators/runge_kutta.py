"""Explicit Runge-Kutta steps with a fixed step size ``h = t - s``.

Stage ``i`` evaluates ``k_i = v(x + h sum_j a_ij k_j, s + c_i h)``; the step is
``x + h sum_i w_i k_i``. The numbers ``c`` (nodes), ``a`` (matrix) and ``w`` (weights) are the
Butcher tableau of a method. A row of the batch never sees the others, so results do not depend on
how a batch is split.

Source: Butcher 2016, "Numerical Methods for Ordinary Differential Equations", chapter 3.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, VelocityField
from flowgen.integrators.stepper import Time, accumulating, evaluate


@dataclass(frozen=True)
class Tableau:
    """Butcher tableau of an explicit method with ``n`` stages.

    Args:
        nodes: ``c``, ``n`` numbers in ``[0, 1]``.
        matrix: ``a``, row ``i`` holding ``i`` numbers (strictly lower triangular).
        weights: ``w``, ``n`` numbers of sum 1.
    """

    nodes: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


class RungeKutta:
    """A fixed step by the tableau of the class; subclass it with another tableau for a new method.

    Attributes:
        order: Global order of accuracy.
        evaluations: Evaluations of the field in a step.
        tableau: The method.
    """

    order: ClassVar[int]
    evaluations: ClassVar[int]
    tableau: ClassVar[Tableau]

    def step(
        self,
        field: VelocityField,
        x: Float[Tensor, "b *d"],
        s: Time,
        t: Time,
        cond: Condition | None = None,
    ) -> Float[Tensor, "b *d"]:
        """Return the state at time ``t``: ``x + h sum_i w_i k_i``.

        Args:
            field: The velocity.
            x: States ``(b, *d)`` at time ``s``.
            s: Where the step starts, in ``[0, 1]``.
            t: Where it ends, in ``[0, 1]``; smaller than ``s`` to go backwards.
            cond: Conditions of the rows.

        Returns:
            States ``(b, *d)`` at ``t``, float32 at least.
        """
        return self.step_with_slope(field, accumulating(x), s, t, cond)[0]

    def step_with_slope(
        self, field: VelocityField, x: Tensor, s: Time, t: Time, cond: Condition | None
    ) -> tuple[Tensor, Tensor]:
        """Return the state at ``t`` and the velocity at the start, each ``(b, *d)``."""
        h = t - s
        stages: list[Tensor] = []
        for c, row in zip(self.tableau.nodes, self.tableau.matrix, strict=True):
            # s + h may miss t by a rounding error, and t may be the last time the field accepts
            time = t if c == 1 else s + c * h
            stages.append(evaluate(field, _advance(x, h, row, stages), time, cond))
        return _advance(x, h, self.tableau.weights, stages), stages[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _advance(x: Tensor, h: Time, row: tuple[float, ...], stages: list[Tensor]) -> Tensor:
    """Return ``x + h sum_j row_j k_j``."""
    for weight, k in zip(row, stages, strict=True):
        if weight != 0:
            x = x + (h * weight) * k
    return x


class Euler(RungeKutta):
    """``x + h v(x, s)``: order 1; exact on straight paths."""

    order = 1
    evaluations = 1
    tableau = Tableau((0.0,), ((),), (1.0,))


class Midpoint(RungeKutta):
    """``x + h v(x + h/2 k_1, s + h/2)``: order 2; never evaluates at the end of the step."""

    order = 2
    evaluations = 2
    tableau = Tableau((0.0, 1 / 2), ((), (1 / 2,)), (0.0, 1.0))


class Heun(RungeKutta):
    """``x + h/2 (k_1 + k_2)`` with ``k_2`` at the end of an Euler step: order 2."""

    order = 2
    evaluations = 2
    tableau = Tableau((0.0, 1.0), ((), (1.0,)), (1 / 2, 1 / 2))


class Ralston(RungeKutta):
    """``x + h/4 (k_1 + 3 k_2)`` with ``k_2`` at two thirds: the smallest error bound of order 2."""

    order = 2
    evaluations = 2
    tableau = Tableau((0.0, 2 / 3), ((), (2 / 3,)), (1 / 4, 3 / 4))


class Kutta3(RungeKutta):
    """``x + h/6 (k_1 + 4 k_2 + k_3)``: order 3, Simpson's rule on fields of time alone."""

    order = 3
    evaluations = 3
    tableau = Tableau((0.0, 1 / 2, 1.0), ((), (1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6))


class RK4(RungeKutta):
    """The classic method ``x + h/6 (k_1 + 2 k_2 + 2 k_3 + k_4)``: order 4.

    Not torchdiffeq's ``rk4``, which is :class:`RK4ThreeEighths` and differs in the digits.
    """

    order = 4
    evaluations = 4
    tableau = Tableau(
        (0.0, 1 / 2, 1 / 2, 1.0),
        ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    )


class RK4ThreeEighths(RungeKutta):
    """Kutta's 3/8 rule ``x + h/8 (k_1 + 3 k_2 + 3 k_3 + k_4)``: order 4, torchdiffeq's ``rk4``."""

    order = 4
    evaluations = 4
    tableau = Tableau(
        (0.0, 1 / 3, 2 / 3, 1.0),
        ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    )
