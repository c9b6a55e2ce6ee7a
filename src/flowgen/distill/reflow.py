"""Reflow: an objective on pairs that a teacher's flow has made of the source.

The teacher takes each source sample ``x_0`` to ``x_1' = X(x_0, 0, 1)``. The pairs ``(x_0, x_1')``
have the teacher's marginals, cost no more to transport than those it was trained on under every
convex cost, and their interpolations cross less; on the linear path the velocity that is learnt
from them is straighter, and straight in the limit of many rounds. One Euler step is then enough.

Learning from such pairs at time 0 alone, or at ``K`` times, is the distillation of a straight flow
into one or ``K`` steps.
"""

import torch
from torch import Tensor, nn

from flowgen.core import (
    Coupling,
    Follows,
    InputError,
    Loss,
    Objective,
    Pair,
    Prepared,
    Scheduled,
    VelocityField,
    domain_of,
)
from flowgen.distill.frozen import Frozen
from flowgen.distill.velocities import OfTeacher
from flowgen.integrators import Sampler
from flowgen.paths import Path


class Reflow(nn.Module):
    """An objective on the pairs of the teacher's flow, which are made as they are needed.

    Args:
        path: Of the teacher.
        teacher: Whose flow makes the pairs, guided or not.
        objective: What is minimised on them, e.g. :class:`flowgen.objectives.FlowMatching`.
        sampler: Solves the teacher's equation; draws no noise.
        coupling: Of the run. Where its pairs are a flow's already (``of_flow``, as those of
            :class:`flowgen.couplings.MadePairs`), they are taken as they are.

    Attributes:
        score_valid: False: in these pairs the noise follows from the data.

    Raises:
        InputError: If there is no teacher, or the sampler is stochastic.

    Source: Liu et al. 2022, arXiv 2209.03003, sections 2.2 (reflow) and 2.3 (distillation).
    """

    score_valid: bool = False

    def __init__(
        self,
        path: Path,
        teacher: VelocityField | None,
        objective: Objective,
        *,
        sampler: Sampler,
        coupling: Coupling | None = None,
    ) -> None:
        super().__init__()
        if sampler.stochastic:
            raise InputError(
                f"pairs are made by an ODE, and {sampler.stepper!r} draws noise: use e.g. heun"
            )
        self.velocity = OfTeacher(teacher)
        self.objective = objective
        self.sampler = sampler
        self.given = bool(getattr(coupling, "of_flow", False))
        # Found once, since finding it reads a value.
        begin = torch.tensor([domain_of(self.velocity.teacher)[0]], dtype=torch.float64)
        self.initial_scale = float(path.coefficients(begin).sigma)

    @property
    def teacher(self) -> Frozen:
        """Whose flow makes the pairs."""
        return self.velocity.teacher

    @property
    def total_steps(self) -> int | None:
        """Optimiser steps of the run, handed on to the objective."""
        return self.objective.total_steps if isinstance(self.objective, Scheduled) else None

    @total_steps.setter
    def total_steps(self, total: int | None) -> None:
        if isinstance(self.objective, Scheduled):
            self.objective.total_steps = total

    def begin(self, field: nn.Module) -> None:
        """Let the objective take what it needs of the field."""
        if isinstance(self.objective, Prepared):
            self.objective.begin(field)

    def after_step(self, field: nn.Module, step: int) -> None:
        """Let the objective go along with the field."""
        if isinstance(self.objective, Follows):
            self.objective.after_step(field, step)

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the objective's loss on the teacher's pairs of the source samples.

        Args:
            model: What is trained.
            pair: Source samples and conditions; data and weights of the pairs are not used, unless
                they are a flow's.
            step: Optimiser steps taken before.
            generator: Draws what the objective draws.
        """
        if not self.given:
            pair = Pair(pair.x_0, self.ends(pair), pair.cond)
        return self.objective(model, pair, step=step, generator=generator)

    @torch.no_grad()
    def ends(self, pair: Pair) -> Tensor:
        """Return where the teacher takes the source samples, shape ``(b, *d)``."""
        start = self.initial_scale * pair.x_0
        return self.sampler.sample(self.teacher.field, start, pair.cond).to(start.dtype)
