"""The semigroup identity: a jump is a jump to its middle and another from there.

``X(x, s, t) = X(X(x, s, r), r, t)``, that is ``(t - s) u(x, s, t) = (r - s) u(x, s, r) + (t - r)
u(x_r, r, t)``. The right side, without gradient, is the target of the left. With a short first step
this is discrete consistency (training or distillation, phased where there are segments), with the
student's own first half a shortcut model or progressive self-distillation, with a straight first
step along the data's velocity alpha-flow.
"""

import copy

import torch
from torch import Tensor, nn

from flowgen.core import (
    FlowMap,
    InputError,
    Loss,
    Pair,
    PathPoint,
    VelocityField,
    expand,
    mean_over_dims,
)
from flowgen.distill.denoising import Denoising
from flowgen.distill.distance_schedules import DistanceSchedule
from flowgen.distill.first_steps import FirstStep
from flowgen.distill.step_weights import Even, StepWeight
from flowgen.distill.students import draw_triples, flow_map, progress_of, rows_of, same_masks
from flowgen.distill.triples import TripleSampler
from flowgen.distill.velocities import VelocitySource
from flowgen.objectives import Distance, Squared
from flowgen.paths import Path

_ROUNDED = 1e-6


class Semigroup(nn.Module):
    """The objective ``w distance(u(x, s, t) - stopgrad(u*))``, and the velocity where ``s = t``.

    ``u* = (X* - x) / (t - s)`` with ``X* = x_r + (t - r) u(x_r, r, t)``.

    Args:
        path: From the source to the data.
        triples: From when, over which middle, to when.
        first: How the middle is reached.
        velocity: What rows without a length learn; may be None where there are none.
        weight: Factor of each triple; 1 if None.
        ends: Compare ends ``X`` instead of mean velocities: their difference times ``t - s``.
        distance: Squared, mean over dimensions, if None; may change over the run.
        denoising: A regression of the data at little noise beside it; None for none.
        settled: In ``(0, 1)``: where the second jump begins at this time or later, the student as
            it was at the start of the run makes it; None lets all be made anew.
        target_decay: Decay of an averaged student that makes the targets, in ``[0, 1)``;
            None lets the student make them itself.

    Attributes:
        total_steps: Optimiser steps of the run; None until it is told, and schedules are over.

    Raises:
        InputError: If a number leaves its range, or data are regressed by jumps that do not lead
            to them.

    Source: Song et al. 2023, arXiv 2303.01469, algorithms 2 and 3; Frans et al. 2024, arXiv
        2410.12557, eq. 4; Boffi et al. 2025, arXiv 2505.18825, eq. 17; Zhang et al. 2025, arXiv
        2510.20771, eq. 10.
    """

    def __init__(
        self,
        path: Path,
        triples: TripleSampler,
        first: FirstStep,
        *,
        velocity: VelocitySource | None = None,
        weight: StepWeight | None = None,
        ends: bool = False,
        distance: Distance | DistanceSchedule | None = None,
        denoising: Denoising | None = None,
        settled: float | None = None,
        target_decay: float | None = None,
    ) -> None:
        super().__init__()
        if target_decay is not None and not 0 <= target_decay < 1:
            raise InputError(f"target_decay must be in [0, 1), got {target_decay}")
        if settled is not None and not 0 < settled < 1:
            raise InputError(f"settled must be in (0, 1), got {settled}")
        if denoising is not None and getattr(triples, "edges", None) != (0.0, 1.0):
            raise InputError("denoising needs triples that all lead to the data, e.g. NoiseGrid")
        self.path = path
        self.triples = triples
        self.first = first
        self.velocity = velocity
        self.weight: StepWeight = Even() if weight is None else weight
        self.ends = ends
        self.distance: Distance | DistanceSchedule = Squared() if distance is None else distance
        self.denoising = denoising
        self.settled = settled
        self.target_decay = target_decay
        self.average: nn.Module | None = None
        self.start: nn.Module | None = None
        self.total_steps: int | None = None

    def begin(self, field: nn.Module) -> None:
        """Take copies of the student, where an average or its start makes targets."""
        if self.target_decay is not None:
            self.average = copy.deepcopy(field).eval().requires_grad_(False)
        if self.settled is not None:
            self.start = copy.deepcopy(field).eval().requires_grad_(False)

    @torch.no_grad()
    def after_step(self, field: nn.Module, step: int) -> None:
        """Let the average follow the student after optimiser step number ``step`` (from 1)."""
        if self.average is None or self.target_decay is None:
            return
        decay = min(self.target_decay, (1 + step) / (10 + step))
        mine: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(field.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - decay)

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of each pair on one random triple.

        Args:
            model: A flow map.
            pair: Coupled source and data in the model's space, each ``(b, *d)``.
            step: Optimiser steps taken before.
            generator: Draws triples, and the noise of a path that has some.

        Returns:
            The loss ``(b,)`` with the starts as its times, and the term ``residual``, the mean
            square of ``u - u*``; with a regression of the data its loss as ``denoising``.

        Raises:
            InputError: If the model is no flow map, or triples and model do not fit.
        """
        student = flow_map(model)
        progress = progress_of(step, self.total_steps)
        found = draw_triples(self.triples, progress, self.path, model, pair, generator)
        point = self.path.sample(pair, found.s, generator=generator)
        x, s, t, k = point.x_t, found.s, found.t, found.apart
        target = flow_map(self.average) if isinstance(self.average, FlowMap) else student
        parts: list[Tensor] = []
        denoised: Tensor | None = None
        few = rows_of(pair, slice(k))
        if k:
            wanted = self._wanted(target, few, point, found.r[:k], t[:k])
            u = student.mean_velocity(x[:k], s[:k], t[:k], few.cond)
            parts.append(u - wanted)
            if self.denoising is not None:
                ends = x[:k] + expand(t[:k] - s[:k], u) * u
                denoised = self.denoising(self.path, few, ends, s[:k])
        if k < len(x):
            if self.velocity is None:
                raise InputError("rows without a length learn a velocity, and none is given")
            rest = rows_of(pair, slice(k, None))
            here = PathPoint(x[k:], point.v_t[k:], s[k:], self.path.coefficients(s[k:]))
            with same_masks(here.x_t):
                v = self.velocity(student, here, rest.cond)
            parts.append(student.mean_velocity(x[k:], s[k:], s[k:], rest.cond) - v)
        difference = torch.cat(parts)
        terms = {"residual": mean_over_dims(difference.detach().square())[:k]}
        weight = torch.ones_like(s)
        weight[:k] = self.weight(self.path, s[:k], found.r[:k], t[:k])
        if self.ends:
            length = torch.cat([(t - s)[:k], torch.ones_like(s[k:])])
            difference = expand(length, difference) * difference
        distance = self.distance
        if isinstance(distance, DistanceSchedule):
            distance = distance.at(progress)
        value = weight * distance(difference)
        if denoised is not None:
            terms["denoising"] = denoised.detach()
            value = torch.cat([value[:k] + denoised, value[k:]])
        return Loss(value, pair, s, terms)

    @torch.no_grad()
    def _wanted(
        self, target: FlowMap, pair: Pair, point: PathPoint, r: Tensor, t: Tensor
    ) -> Tensor:
        """Return ``u*`` of the rows with a length."""
        k = len(pair)
        start = PathPoint(
            point.x_t[:k], point.v_t[:k], point.t[:k], self.path.coefficients(point.t[:k])
        )
        with same_masks(start.x_t):
            middle = self.first(target, self.path, pair, start, r)
        with same_masks(start.x_t):
            u = target.mean_velocity(middle, r, t, pair.cond)
        if self.settled is not None and isinstance(self.start, FlowMap):
            kept = self.start.mean_velocity(middle, r, t, pair.cond)
            # Times that rest at the limit may have been rounded below it.
            u = torch.where(expand(r > self.settled - _ROUNDED, u), kept, u)
        end = middle + expand(t - r, u) * u
        return (end - start.x_t) / expand((t - start.t).clamp(min=1e-6), end)
