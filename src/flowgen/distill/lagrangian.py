"""The Lagrangian identity: moving the end of a jump moves along the flow there.

``d_t X(x, s, t) = v(X(x, s, t), t)`` with ``X = x + (t - s) u``. Only the derivative in one number
is needed, no derivative in space, and the loss is a true one: its gradient passes through
``d_t X``, by reverse over forward differentiation. With a teacher's velocity at the end this is
Lagrangian map distillation, with the student's own the self-distillation LSD.
"""

import torch
from torch import Tensor, nn

from flowgen.core import Loss, Pair, PathPoint, VelocityField, expand, mean_over_dims
from flowgen.distill.forward_mode import jvp
from flowgen.distill.intervals import IntervalSampler
from flowgen.distill.students import draw_intervals, flow_map, mask_state, rows, same_masks
from flowgen.distill.uncertainty import Uncertainty
from flowgen.distill.velocities import VelocitySource
from flowgen.models import math_attention
from flowgen.objectives import Distance, Squared
from flowgen.paths import Path


class Lagrangian(nn.Module):
    """The objective ``distance(d_t X - stopgrad v(X, t))``, and flow matching where ``s = t``.

    Where the velocity is the student's own, both passes of the network drop the same features.

    Args:
        path: From the source to the data.
        intervals: From when to when; those without a length learn the velocity.
        velocity: The velocity that rows without a length learn.
        ahead: The velocity at the end of a jump: a teacher's or the student's own.
        distance: Squared, mean over dimensions, if None.
        uncertainty: Learns a weight of each interval; none if None.

    Source: Boffi, Albergo and Vanden-Eijnden 2025, arXiv 2505.18825, eq. 15 (LSD), and 2024, arXiv
        2406.07507, eq. 9 (LMD).
    """

    def __init__(
        self,
        path: Path,
        intervals: IntervalSampler,
        velocity: VelocitySource,
        ahead: VelocitySource,
        *,
        distance: Distance | None = None,
        uncertainty: Uncertainty | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self.intervals = intervals
        self.velocity = velocity
        self.ahead = ahead
        self.distance: Distance = Squared() if distance is None else distance
        self.uncertainty = uncertainty

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
            model: A flow map that leads to any time.
            pair: Coupled source and data in the model's space, each ``(b, *d)``.
            step: Unused: the objective is the same at every step.
            generator: Draws intervals, and the noise of a path that has some.

        Returns:
            The loss ``(b,)`` with the starts of the intervals as its times, and the term
            ``residual``, the mean square of ``d_t X - v(X, t)``.

        Raises:
            InputError: If the model is no such flow map.
        """
        del step
        student = flow_map(model, anywhere=True)
        found = draw_intervals(self.intervals, self.path, model, pair, generator)
        point = self.path.sample(pair, found.s, generator=generator)
        x, s, t, k = point.x_t, found.s, found.t, found.apart
        parts: list[Tensor] = []
        if k:
            cond = rows(pair.cond, slice(k))

            def jump(t: Tensor) -> Tensor:
                away = student.mean_velocity(x[:k], s[:k], t, cond)
                return x[:k] + expand(t - s[:k], away) * away

            drawn = mask_state(x)
            with math_attention(), torch.autocast(x.device.type, enabled=False):
                end, speed = jvp(jump, (t[:k],), (torch.ones_like(t[:k]),), graph=True)
            coefficients = self.path.coefficients(t[:k])
            there = PathPoint(end.detach(), point.v_t[:k], t[:k], coefficients)
            # After the jump, whose end it needs; a teacher draws nothing.
            with same_masks(x, drawn):
                ahead = self.ahead(student, there, cond)
            parts.append(speed - ahead)
        if k < len(x):
            rest = rows(pair.cond, slice(k, None))
            noise = None if point.noise is None else point.noise[k:]
            here = PathPoint(x[k:], point.v_t[k:], s[k:], self.path.coefficients(s[k:]), noise)
            with same_masks(x):
                v = self.velocity(student, here, rest)
            parts.append(student.mean_velocity(x[k:], s[k:], s[k:], rest) - v)
        difference = torch.cat(parts)
        value = self.distance(difference)
        if self.uncertainty is not None:
            value = self.uncertainty(value, s, t)
        terms = {"residual": mean_over_dims(difference.detach().square())[:k]}
        return Loss(value, pair, s, terms)
