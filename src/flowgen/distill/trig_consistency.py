"""Continuous-time consistency in TrigFlow's form (sCM).

In TrigFlow's coordinates, see :mod:`flowgen.paths.trig_flow`, the map to the data is ``f = cos x -
sin d F`` with ``d`` the data's standard deviation, and it is right where it does not change along
the flow: ``cos df/d angle = 0``. With a share ``r`` of what comes of the network's own derivative,

    ``g = -cos^2 (d F - dx/d angle) - r cos sin (x + d dF/d angle)``

is the push on ``F``. Network and teacher may live on any affine path: points, velocities and
derivatives are converted here, and what is learnt is ``f``, which all paths have in common. On the
linear path ``g = -t N (v - u + (1 - t) D u)`` where ``r = 1``: the same push as that of
:class:`flowgen.distill.Eulerian` to the data, weighed otherwise.
"""

import torch
from torch import Tensor, nn

from flowgen.core import InputError, Loss, Pair, VelocityField, expand, mean_over_dims
from flowgen.distill.derivative import Derivative, Exact
from flowgen.distill.students import progress_of
from flowgen.distill.tangents import Ramp, norms, shortened
from flowgen.distill.uncertainty import Uncertainty
from flowgen.distill.velocities import VelocitySource
from flowgen.models import ConsistencyField
from flowgen.objectives import LogitNormal, TimeSampler
from flowgen.objectives.flow_matching import common_domain
from flowgen.paths import AffinePath, Path, TrigFlowPrediction, Velocity, convert, to_trig_flow


class TrigConsistency(nn.Module):
    """The objective ``e^w |F - stopgrad(F + g / (|g| + c))|^2 - w``, mean over dimensions.

    Args:
        path: Of student and teacher, affine.
        velocity: Its velocity: of the data (sCT), or a teacher's (sCD).
        data_std: TrigFlow's scale of the data, above 0; it sets how angles count against each
            other, and no map depends on it.
        times: Of the linear path, for the noise levels ``(1 - t) / t``; the path of the student has
            them at times of its own. Normal logits of mean 1 and standard deviation 1.4 if None,
            which is ``angle = arctan(e^tau / data_std)`` with ``tau ~ N(-1, 1.4^2)``.
        derivative: Exact if None.
        ramp: The number ``r`` over a run; 1 if None.
        c: Length from which the push is shortened, above 0.
        uncertainty: Learns the weight ``w`` of each time; none if None.

    Attributes:
        total_steps: Optimiser steps of the run, which the ramp is a share of; None until it is
            told, and the ramp is over.

    Raises:
        InputError: If the path has noise of its own, or a number leaves its range.

    Source: Lu and Song 2024, arXiv 2410.11081, algorithm 1.
    """

    def __init__(
        self,
        path: Path,
        velocity: VelocitySource,
        *,
        data_std: float = 0.5,
        times: TimeSampler | None = None,
        derivative: Derivative | None = None,
        ramp: Ramp | None = None,
        c: float = 0.1,
        uncertainty: Uncertainty | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(path, AffinePath):
            raise InputError(
                f"{type(path).__name__} has noise of its own, and no angle in TrigFlow: use a "
                "teacher of an affine path"
            )
        if not 0 < c < float("inf"):
            raise InputError(f"c must be finite and above 0, got {c}")
        self.total_steps: int | None = None
        self.path = path
        self.velocity = velocity
        self.prediction = TrigFlowPrediction(float(data_std))
        self.times: TimeSampler = LogitNormal(1.0, 1.4) if times is None else times
        self.derivative: Derivative = Exact() if derivative is None else derivative
        self.ramp = Ramp() if ramp is None else ramp
        self.c = float(c)
        self.uncertainty = uncertainty

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of each pair at one random angle.

        Args:
            model: A :class:`flowgen.models.ConsistencyField`.
            pair: Coupled source and data in the model's space, each ``(b, *d)``.
            step: Optimiser steps taken before.
            generator: Draws the angles.

        Returns:
            The loss ``(b,)`` at times of the path, and the terms ``residual`` (mean square of the
            whole push with ``r = 1``), ``tangent`` (norm of the push before it is shortened) and
            ``derivative`` (norm of ``cos sin d dF/d angle``).

        Raises:
            InputError: If the model is no such field.
        """
        if not isinstance(model, ConsistencyField):
            raise InputError(
                "this objective trains a flowgen.models.ConsistencyField, and got "
                f"{type(model).__name__}: choose the whole method by distill=<name>"
            )
        t = self._draw(model, pair, generator)
        point = self.path.sample(pair, t)
        x_t, coefficients = point.x_t, point.coefficients
        v = self.velocity(model, point, pair.cond)

        def predicted(x: Tensor, s: Tensor) -> Tensor:
            return model.predict(x, s, pair.cond, self.prediction)

        answer, change = self.derivative(predicted, x_t, t, v)
        std = self.prediction.data_std
        there = to_trig_flow(x_t, coefficients, std)
        cos, sin, pace = (expand(value, x_t) for value in (there.cos, there.sin, there.dt))
        along = convert(v, x_t, coefficients, Velocity(), self.prediction)
        mismatch = -cos.square() * std * (answer.detach() - along)
        moved = pace * std * change.to(x_t.dtype)
        rest = -(cos * sin * there.x + moved)
        ramp = self.ramp(progress_of(step, self.total_steps))
        whole = mismatch + ramp * rest
        push = shortened(whole, self.c).to(answer.dtype)
        value = mean_over_dims((answer - (answer.detach() + push)).square())
        if self.uncertainty is not None:
            value = self.uncertainty(value, t, torch.ones_like(t))
        terms = {
            "residual": mean_over_dims((mismatch + rest).square()),
            "tangent": norms(whole),
            "derivative": norms(moved),
        }
        return Loss(value, pair, t, terms)

    def _draw(self, model: VelocityField, pair: Pair, generator: torch.Generator | None) -> Tensor:
        """Return times of the path, in the pairs' precision, where path and model are known."""
        low, high = common_domain(self.path, model)
        drawn = self.times(len(pair), generator=generator, device=pair.x_1.device)
        drawn = drawn.to(torch.promote_types(drawn.dtype, pair.x_1.dtype))
        found = self.path.schedule.time_of(drawn, 1 - drawn)
        return found.clamp(low, high - self.derivative.reach)
