"""Exponential integrators of affine paths: exact in the linear part, in half-log-SNR.

With ``L = log(alpha / sigma)`` and ``D = E[x_1 | x_t]`` the flow over a step ``h`` in ``L`` is

    ``x' = (sigma' / sigma) x + alpha' int_0^h exp(-(h - u)) D(L + u) du``,

exactly. A method puts a polynomial in ``u`` through the last values of ``D``, whose integral needs
the moments ``I_k = int_0^h exp(-(h - u)) u^k du``. Backwards, from data to source, data and noise
change places: the same formula with ``alpha`` and ``sigma`` swapped, ``-L`` for ``L`` and
``e = E[x_0 | x_t]`` for ``D``; this file calls the pair ``(a, b)`` and the mean ``m``. At the start
(``a = 0``) and at the end (``b = 0``) the step ``h`` is infinite: the first steps by ``m`` alone
and leaves no history, the last ends at ``a' m``.

Sources: Lu et al. 2022, arXiv 2211.01095 (DPM-Solver++); Zhao et al. 2023, arXiv 2302.04867
(UniPC); Song et al. 2021, arXiv 2010.02502 (DDIM).
"""

import copy
import math
from collections import deque
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.interpolation import weights_of
from flowgen.integrators.points import Point, Points, affine_path
from flowgen.integrators.stepper import Leg, Time, accumulating, evaluate

_CLEAN = 0.01  # share of what is left behind, below which a leg ends at low order


def moments(h: float, count: int) -> list[float]:
    """Return ``int_0^h exp(-(h - u)) u^k du`` for ``k = 0 .. count - 1`` and ``h > 0``.

    By ``I_k = h^k - k I_(k-1)``, which loses all digits of small steps; for those by the series
    ``sum_m (-1)^m h^(k+1+m) k! / (k+1+m)!``.
    """
    if h > 1:
        values = [-math.expm1(-h)]
        for k in range(1, count):
            values.append(h**k - k * values[-1])
        return values
    values = []
    for k in range(count):
        term = h ** (k + 1) / (k + 1)
        total, m = term, 1
        while abs(term) > 1e-18 * total:
            term *= -h / (k + 1 + m)
            total, m = total + term, m + 1
        values.append(total)
    return values


class Mean(NamedTuple):
    """A mean ``m (b, *d)`` and where it was found, ``clock = log(a / b)``."""

    time: float
    clock: float
    value: Tensor


class ExponentialMultistep:
    """Polynomials through the last ``degree`` means: what the methods below share.

    Backwards it runs as well as forwards. The final steps of a leg that ends with hardly any noise
    (forwards) or data (backwards) are taken at lower and lower order, the last one at order 1:
    there ``h`` is large and extrapolation unstable. A step that ends at ``b = 0`` has order 1
    anyway. One evaluation a step.

    Args:
        lower_order_final: Whether to lower the order so.

    Attributes:
        order: Global order of accuracy in steps of ``L``, on a leg without such an end.
        degree: Most known means that a step uses.
        averaged: Whether two means are weighted as if the second was found in the middle.
    """

    order: int
    needs_affine_path = True
    degree: int
    averaged: bool = False

    def __init__(self, lower_order_final: bool = True) -> None:
        self.lower_order_final = lower_order_final
        self._points: Points | None = None
        self._means: deque[Mean] = deque()
        self._remaining = 0
        self._first = True
        self._lowers = False

    def begin(
        self, field: VelocityField, x: Float[Tensor, "b *d"], leg: Leg
    ) -> "ExponentialMultistep":
        """Return the same method without history, for one leg.

        Raises:
            InputError: If the field does not carry an affine path.
        """
        points = Points(affine_path(field, self), accumulating(x), leg.nodes)
        start, end = leg.nodes[0], leg.nodes[-1]
        a, b = _ends(points.at(end), end > start)
        fresh = copy.copy(self)
        fresh._points = points
        fresh._means = deque(maxlen=self.degree)
        fresh._remaining = len(leg.nodes) - 1
        fresh._lowers = self.lower_order_final and b < _CLEAN * a
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
            s: Where the step starts, in ``[0, 1]``: where the step before it has ended.
            t: Where it ends, in ``[0, 1]``; smaller than ``s`` to go backwards.
            cond: Conditions of the rows.

        Returns:
            States ``(b, *d)`` at ``t``, float32 at least.

        Raises:
            InputError: If the field does not carry an affine path.
        """
        x = accumulating(x)
        if self._points is None:
            leg = Leg((float(s), float(t)), 1)
            return self.begin(field, x, leg).step(field, x, s, t, cond)
        here, there = self._points.at(s), self._points.at(t)
        if here.t == there.t:
            return x
        forward = there.t > here.t
        if not self._means or self._means[-1].time != here.t:
            self._means.append(_mean(field, x, here, forward, cond))
        (_, b), (a_next, b_next) = _ends(here, forward), _ends(there, forward)
        used, clock, end = self._used(b_next), self._means[-1].clock, _clock(a_next, b_next)
        start = (b_next / b) * x
        predicted = start + a_next * self._integral(used, clock, end)
        corrects = self._remaining > 1 and self._corrects(self._first)
        self._remaining, self._first = self._remaining - 1, False
        if not corrects:
            return predicted
        found = _mean(field, predicted, there, forward, cond)
        self._means.append(found)
        return start + a_next * self._integral([*used, found], clock, end)

    def _used(self, b_next: float) -> list[Mean]:
        """Return the means to predict with, oldest first; one at ``a = 0`` can only stand alone."""
        count = min(self.degree, self._remaining) if self._lowers else self.degree
        if b_next == 0:
            count = 1
        known = [mean for mean in self._means if mean.clock > -math.inf]
        return known[-count:] or [self._means[-1]]

    def _corrects(self, first: bool) -> bool:
        """Return whether a step is corrected by the mean at its end, found where it is needed next.

        Args:
            first: Whether it is the first step of the leg.
        """
        del first
        return False

    def _integral(self, means: list[Mean], start: float, end: float) -> Tensor:
        """Return ``int_0^h exp(-(h - u)) m(L + u) du`` of the polynomial through ``means``."""
        weights = self._weights([mean.clock for mean in means], start, end)
        total = weights[0] * means[0].value
        for weight, mean in zip(weights[1:], means[1:], strict=True):
            total = total + weight * mean.value
        return total

    def _weights(self, clocks: list[float], start: float, end: float) -> list[float]:
        h = end - start
        if math.isinf(h):
            # From a = 0 the flow is d(x / b) = m d(a / b): a rectangle, corrected to a trapezium.
            return [1 / len(clocks)] * len(clocks)
        integrals = [value / h**k for k, value in enumerate(moments(h, len(clocks)))]
        if self.averaged and len(clocks) == 2:
            integrals[1] = integrals[0] / 2
        return weights_of([(clock - start) / h for clock in clocks], integrals)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lower_order_final={self.lower_order_final})"


class DDIM(ExponentialMultistep):
    """``x' = (sigma' / sigma) x + alpha' (1 - exp(-h)) D``: order 1.

    On the linear path it is Euler's step; on others it is exact where ``D`` is constant.
    """

    order = 1
    degree = 1

    def __init__(self) -> None:
        super().__init__()

    def __repr__(self) -> str:
        return "DDIM()"


class DPMSolver2M(ExponentialMultistep):
    """DPM-Solver++(2M): order 2 from the last two means, weighted as the authors do.

    Their second moment is ``h I_0 / 2``, which agrees with ``I_1`` to the order of the method.
    """

    order = 2
    degree = 2
    averaged = True


class DPMSolver3M(ExponentialMultistep):
    """DPM-Solver++(3M): order 3 from the last three means, by the exact moments.

    The first step is corrected by the mean at its end, which the second needs anyway: without that
    a step of order 1 would keep the whole at order 2. The published formula halves the weight of
    the second difference, which also lowers the order to 2.
    """

    order = 3
    degree = 3

    def _corrects(self, first: bool) -> bool:
        return first


class UniPC(ExponentialMultistep):
    """UniPC: each step is corrected by the mean at its end, which the next one starts from.

    The corrector adds an order without an evaluation. Only the last step of a leg is not corrected.

    Args:
        solver_order: Most former means in a predictor, 1 to 3.
        lower_order_final: Whether to lower the order at a clean end.
        bh2: Take the authors' variant ``B_2(h)``, in which a predictor of order 2 and the corrector
            of order 1 weight their two means as if the second was found in the middle; the other
            weights do not depend on it. It is what diffusers has.

    Attributes:
        order: ``solver_order + 1``, but 3 for 3: the first step knows one mean only, which limits a
            long trajectory of it.

    Raises:
        InputError: If there is no method of that order.
    """

    def __init__(
        self, solver_order: int = 2, lower_order_final: bool = True, bh2: bool = False
    ) -> None:
        super().__init__(lower_order_final)
        if solver_order not in (1, 2, 3):
            raise InputError(f"solver_order must be 1, 2 or 3, got {solver_order}")
        self.degree = solver_order
        self.order = min(solver_order + 1, 3)
        self.averaged = bh2

    def _corrects(self, first: bool) -> bool:
        del first
        return True

    def __repr__(self) -> str:
        return (
            f"UniPC({self.degree}, lower_order_final={self.lower_order_final}, bh2={self.averaged})"
        )


def _mean(
    field: VelocityField, x: Tensor, point: Point, forward: bool, cond: Condition | None
) -> Mean:
    """Return the mean of what the direction leads to: of data forwards, of noise backwards."""
    v = evaluate(field, x, point.asked, cond)
    value = point.data(x, v) if forward else point.noise(x, v)
    return Mean(point.t, _clock(*_ends(point, forward)), value)


def _ends(point: Point, forward: bool) -> tuple[float, float]:
    """Return ``(a, b)``: the shares of what the direction leads to and of what it leaves."""
    return (point.alpha, point.sigma) if forward else (point.sigma, point.alpha)


def _clock(a: float, b: float) -> float:
    """Return ``log(a / b)``, infinite at the ends."""
    if a <= 0:
        return -math.inf
    return math.log(a / b) if b > 0 else math.inf
