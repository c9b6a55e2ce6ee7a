"""The Eulerian identity: moving the start of a jump along the flow leaves its end where it is.

``d_s X(x, s, t) + grad_x X v = 0``, that is ``u = v + (t - s) D_v u`` with ``D_v u = d_s u +
(grad_x u) v``. The right side, without gradient, is the target of the left. With the end fixed at
the data and a teacher's velocity this is velocity matching (MDT-dist) and continuous consistency
distillation; with random ends MeanFlow (from data) and align-your-flow (from a teacher).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowgen.core import (
    Condition,
    FlowMap,
    InputError,
    Loss,
    Pair,
    PathPoint,
    VelocityField,
    mean_over_dims,
)
from flowgen.distill.derivative import Derivative, Exact
from flowgen.distill.intervals import Intervals, IntervalSampler
from flowgen.distill.students import (
    draw_intervals,
    flow_map,
    mask_state,
    progress_of,
    rows,
    same_masks,
)
from flowgen.distill.tangents import Plain, Tangent, norms
from flowgen.distill.uncertainty import Uncertainty
from flowgen.distill.velocities import VelocitySource
from flowgen.objectives import Constant, Distance, Squared, Weighting
from flowgen.paths import Path


class Eulerian(nn.Module):
    """The objective ``w(s) distance(u - stopgrad(u + g))`` with the push ``g`` of a tangent.

    Args:
        path: From the source to the data.
        intervals: From when to when.
        velocity: The velocity ``v``: of the data, or a teacher's.
        along: The field that the derivative goes along; ``velocity`` if None. The student's own
            makes improved MeanFlow.
        derivative: Exact if None.
        tangent: Makes the push of mismatch and derivative; plain if None.
        weighting: Factor at the start of each interval; 1 if None.
        distance: Squared, mean over dimensions, if None.
        uncertainty: Learns a weight of each interval; none if None.
        diagonal: Factor, at least 0, of a flow-matching loss of ``u(x, s, s)`` at the same points.

    Attributes:
        total_steps: Optimiser steps of the run, which ramps are a share of; None until it is told,
            and ramps are over.

    Raises:
        InputError: If ``diagonal`` is negative, or derivatives by differences could leave segments.

    Source: Geng et al. 2025, arXiv 2505.13447, eqs. 6 and 10; Zhou et al. 2025, arXiv 2509.04406,
        eq. 11; Lu and Song 2024, arXiv 2410.11081, eq. 8; Sabour et al. 2025, arXiv 2506.14603.
    """

    def __init__(
        self,
        path: Path,
        intervals: IntervalSampler,
        velocity: VelocitySource,
        *,
        along: VelocitySource | None = None,
        derivative: Derivative | None = None,
        tangent: Tangent | None = None,
        weighting: Weighting | None = None,
        distance: Distance | None = None,
        uncertainty: Uncertainty | None = None,
        diagonal: float = 0.0,
    ) -> None:
        super().__init__()
        self.total_steps: int | None = None
        if not diagonal >= 0:
            raise InputError(f"diagonal must be >= 0, got {diagonal}")
        self.path = path
        self.intervals = intervals
        self.velocity = velocity
        self.along = along
        self.derivative: Derivative = Exact() if derivative is None else derivative
        self.tangent: Tangent = Plain() if tangent is None else tangent
        self.weighting: Weighting = Constant() if weighting is None else weighting
        self.distance: Distance = Squared() if distance is None else distance
        self.uncertainty = uncertainty
        self.diagonal = float(diagonal)
        if self.derivative.reach > getattr(intervals, "margin", self.derivative.reach):
            raise InputError(
                f"a derivative by differences of {self.derivative.reach:g} reaches beyond the end "
                f"of a segment: give the intervals a margin of {self.derivative.reach:g} or more"
            )

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of each pair on one random interval.

        Args:
            model: A flow map.
            pair: Coupled source and data in the model's space, each ``(b, *d)``.
            step: Optimiser steps taken before.
            generator: Draws intervals, and the noise of a path that has some.

        Returns:
            The loss ``(b,)`` with the starts of the intervals as its times, and the terms
            ``residual`` (mean square of ``v - u + (t - s) D u``), ``tangent`` (norm of the push
            before it is shortened) and ``derivative`` (norm of ``D u``).

        Raises:
            InputError: If the model is no flow map, or intervals and model do not fit.
        """
        student = flow_map(model)
        found = draw_intervals(self.intervals, self.path, model, pair, generator)
        point = self.path.sample(pair, found.s, generator=generator)
        v = self._velocity(self.velocity, student, point, pair.cond, found.apart)
        w = v
        if self.along is not None:
            w = self._velocity(self.along, student, point, pair.cond, found.apart)
        here = residual(student, point.x_t, found, v, w, self.derivative, pair.cond)
        length = found.t - found.s
        progress = progress_of(step, self.total_steps)
        parts = v - here.u.detach(), here.derivative, length, progress
        push = self.tangent(*parts)
        # Numerically minus the push; its gradient is that of u times the derivative of distance.
        value = self.distance(here.u - (here.u.detach() + push))
        value = self.weighting(found.s, point.coefficients) * value
        if self.uncertainty is not None:
            value = self.uncertainty(value, found.s, found.t)
        terms = {
            "residual": mean_over_dims(here.value.square()),
            "tangent": norms(self.tangent.whole(*parts)),
            "derivative": norms(here.derivative)[: found.apart],
        }
        if self.diagonal:
            own = student.mean_velocity(point.x_t, found.s, found.s, pair.cond)
            terms["diagonal"] = self.distance(own - v)
            value = value + self.diagonal * terms["diagonal"]
        return Loss(value, pair, found.s, terms)

    def _velocity(
        self,
        source: VelocitySource,
        student: FlowMap,
        point: PathPoint,
        cond: Condition | None,
        apart: int,
    ) -> Tensor:
        """Return the velocities ``(b, *d)``; a student drops the features that it drops next.

        Masks are the same for the same rows alone, and :func:`residual` takes those with a length
        first. Velocities that draw no masks are asked for at once.
        """
        x = point.x_t
        before = mask_state(x)
        with same_masks(x):
            v = source(student, point, cond)
            # The state is in main memory on any device, so nothing waits.
            if apart in (0, len(x)) or torch.equal(mask_state(x), before):
                return v
        with same_masks(x):
            parts: list[Tensor] = []
            for part in (slice(apart), slice(apart, None)):
                t, noise = point.t[part], point.noise
                noise = None if noise is None else noise[part]
                here = PathPoint(x[part], point.v_t[part], t, self.path.coefficients(t), noise)
                parts.append(source(student, here, rows(cond, part)))
        return torch.cat(parts)


class Residual(NamedTuple):
    """How far a flow map is from the identity at a batch of intervals, each ``(b, *d)``."""

    u: Tensor
    """The mean velocity, with its graph."""

    derivative: Tensor
    """``D_w u``, without graph; 0 where an interval has no length."""

    value: Tensor
    """``v - u + (t - s) D_w u``, without graph."""


def residual(
    student: FlowMap,
    x: Tensor,
    intervals: Intervals,
    v: Tensor,
    w: Tensor,
    derivative: Derivative,
    cond: Condition | None,
) -> Residual:
    """Return mean velocities, their derivatives along ``w`` and what is missing to the identity.

    Both passes of the network drop the same features.

    Args:
        student: The flow map.
        x: States ``(b, *d)`` at the starts of the intervals.
        intervals: Those that have a length come first.
        v: Velocities ``(b, *d)``.
        w: The field that the derivative goes along, ``(b, *d)``.
        derivative: How to differentiate.
        cond: Conditions of the rows.
    """
    s, t, k = intervals.s, intervals.t, intervals.apart
    few = rows(cond, slice(k))

    def mean_velocity(x: Tensor, s: Tensor) -> Tensor:
        return student.mean_velocity(x, s, t[:k], few)

    change = torch.zeros_like(x)
    parts: list[Tensor] = []
    if k:
        first, slope = derivative(mean_velocity, x[:k], s[:k], w[:k])
        change[:k] = slope.to(x.dtype)
        parts.append(first)
    if k < len(x):
        rest = rows(cond, slice(k, None))
        parts.append(student.mean_velocity(x[k:], s[k:], t[k:], rest))
    u = parts[0] if len(parts) == 1 else torch.cat(parts)
    length = (t - s).reshape(-1, *([1] * (x.ndim - 1)))
    return Residual(u, change, v - u.detach() + length * change)
