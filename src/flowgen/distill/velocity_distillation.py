"""Velocity distillation: the student's samples are moved until their flow is the teacher's.

Samples ``x' = f(sigma z, 0)`` of the student, noised again to ``x'_t = alpha x' + sigma z''``, have
marginals of their own. The student's own velocity there, ``w = u - (1 - t) D u``, less the
teacher's ``v`` is, up to a factor of time, the difference of the scores, so it says where the
samples must go to come closer in the Kullback-Leibler divergence:

    ``gradient = E[(w(x'_t, t) - v(x'_t, t)) . d x' / d theta]``.

There is no second network. ``w`` is the velocity of the samples only while the student is
consistent, so this stands beside velocity matching and is no objective alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import Coefficients, InputError, Loss, Pair, VelocityField, mean_over_dims
from flowgen.distill.derivative import Derivative, Exact
from flowgen.distill.eulerian import residual
from flowgen.distill.generator import Generator, normal
from flowgen.distill.intervals import ToEdge
from flowgen.distill.students import draw_intervals, flow_map, progress_of
from flowgen.distill.tangents import Plain, Tangent, norms
from flowgen.distill.velocities import OfTeacher
from flowgen.objectives import Constant, TimeSampler, Weighting
from flowgen.paths import Path


@dataclass(frozen=True)
class KullbackLeibler:
    """``alpha^2 / (sigma (d_alpha sigma - alpha d_sigma))``: velocities made scores.

    With it the gradient of velocity distillation at a time is that of the divergence of the
    marginals there; on the linear path it is ``t^2 / (1 - t)``.

    Args:
        floor: Smallest ``sigma``, in (0, 1).

    Raises:
        InputError: If ``floor`` is out of range.
    """

    floor: float = 1e-2

    def __post_init__(self) -> None:
        """Check the floor."""
        if not 0 < self.floor < 1:
            raise InputError(f"floor must be in (0, 1), got {self.floor}")

    def __call__(self, t: Float[Tensor, " b"], coefficients: Coefficients) -> Float[Tensor, " b"]:
        """Return the weights, shape ``(b,)``."""
        del t
        sigma = coefficients.sigma.clamp(min=self.floor)
        return coefficients.alpha.square() / (sigma * coefficients.wronskian)


class VelocityDistillation(nn.Module):
    """The objective ``w(t) |x' + stopgrad(w_student - v - x')|^2``, to be used in ``Together``.

    Its value is the squared difference of the velocities, its gradient twice that of the formula
    above; it passes through the jump that makes the sample, and through nothing else.

    Args:
        path: From standard normal noise to the data; affine.
        teacher: Whose velocity the samples get; guided or not, by a scale of its own.
        times: Where samples are compared; uniform if None.
        derivative: Exact if None.
        tangent: Makes the difference of the velocities of mismatch and derivative; plain if None.
        weighting: Factor at each time; 1 if None, as in the paper. :class:`KullbackLeibler` makes
            it the divergence.

    Attributes:
        total_steps: Optimiser steps of the run, which ramps are a share of; None until it is told,
            and ramps are over.
        continues: The method whose student this goes on with where it is the whole objective: from
            a teacher alone there is no map to improve.

    Raises:
        InputError: If the path has noise of its own.

    Source: Zhou et al. 2025, arXiv 2509.04406, theorem 2 and the released code.
    """

    continues: str = "velocity_matching"

    def __init__(
        self,
        path: Path,
        teacher: VelocityField,
        *,
        times: TimeSampler | None = None,
        derivative: Derivative | None = None,
        tangent: Tangent | None = None,
        weighting: Weighting | None = None,
    ) -> None:
        super().__init__()
        self.total_steps: int | None = None
        self.path = path
        self.velocity = OfTeacher(teacher)
        self.derivative: Derivative = Exact() if derivative is None else derivative
        self.tangent: Tangent = Plain() if tangent is None else tangent
        self.weighting: Weighting = Constant() if weighting is None else weighting
        self.intervals = ToEdge(times, margin=self.derivative.reach)
        self.generate = Generator(path)

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of one sample for the condition of each pair; their data are not used.

        Args:
            model: A flow map that leads to the data at once.
            pair: For shape and conditions.
            step: Optimiser steps taken before.
            generator: Draws noise and times.

        Returns:
            The loss ``(b,)`` at the times of the comparison, with the terms ``residual`` and
            ``tangent`` of :class:`Eulerian`, on the student's own samples.

        Raises:
            InputError: If the model is no such map.
        """
        student = flow_map(model)
        x = self.generate(model, pair.x_1, pair.cond, step=step, generator=generator)
        with torch.no_grad():
            found = draw_intervals(self.intervals, self.path, model, pair, generator)
            noise = normal(pair.x_1, generator)
            point = self.path.sample(Pair(noise, x.detach()), found.s, generator=generator)
            v = self.velocity(student, point, pair.cond)
            here = residual(student, point.x_t, found, v, v, self.derivative, pair.cond)
            progress = progress_of(step, self.total_steps)
            parts = v - here.u, here.derivative, found.t - found.s, progress
            push = self.tangent(*parts)
            terms = {
                "residual": mean_over_dims(here.value.square()),
                "tangent": norms(self.tangent.whole(*parts)),
            }
        moved = x - (x.detach() + push)
        value = self.weighting(found.s, point.coefficients) * mean_over_dims(moved.square())
        return Loss(value, pair, found.s, terms)
