"""A contest alone, for a short last stage that sharpens what a student makes already."""

from collections.abc import Sequence

import torch

from flowgen.core import Loss, Pair, VelocityField
from flowgen.distill.adversary import Adversary
from flowgen.distill.critic import Critic
from flowgen.distill.critic_objective import CriticObjective, MakeOptimizer
from flowgen.objectives import TimeSampler
from flowgen.paths import Path


class Adversarial(CriticObjective):
    """The student's side of a contest with a critic on noised samples.

    It knows nothing of the teacher's distribution but its data, and drops modes if it goes on for
    long: use it beside an objective that holds the map, in ``Together``, on a trained student.

    Args:
        path: From standard normal noise to the data; affine.
        critic: With a head; its features start as the teacher's.
        adversary: The contest.
        critic_optimizer: From the critic's parameters to their optimiser.
        critic_steps: Steps of the critic for each step of the student, at least 1.
        times: Where samples are judged, by student and critic; uniform if None, then drawn into the
            margins.
        margin: Time kept from both ends, in ``[0, 0.5)``.
        nodes: Where the student jumps from when it samples; 0 alone for one jump.

    Raises:
        InputError: If a number leaves its range, or the critic has no head.

    Source: Sauer et al. 2024 (LADD), arXiv 2403.12015; Sabour et al. 2025, arXiv 2506.14603 (a
        short stage after distillation).
    """

    matches_velocity = False

    def __init__(
        self,
        path: Path,
        critic: Critic,
        adversary: Adversary,
        *,
        critic_optimizer: MakeOptimizer,
        critic_steps: int = 1,
        times: TimeSampler | None = None,
        margin: float = 0.02,
        nodes: Sequence[float] = (0.0,),
    ) -> None:
        super().__init__(
            path,
            critic,
            critic_optimizer=critic_optimizer,
            critic_steps=critic_steps,
            critic_times=times,
            times=times,
            margin=margin,
            nodes=nodes,
            adversary=adversary,
        )

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the student's loss in the contest, of one sample for each pair.

        Args:
            model: A flow map that leads to the data at once.
            pair: Data and conditions.
            step: Optimiser steps taken before.
            generator: Draws noise and times.

        Returns:
            The loss ``(b,)``, times the adversary's weight, at the times of the contest.

        Raises:
            InputError: If the model is no such map.
        """
        assert self.adversary is not None
        x = self.generate(model, pair.x_1, pair.cond, step=step, generator=generator)
        t = self.draw_times(pair, generator)
        node = self.generate.which(x, step)
        logits = self.logits(self.noised(x, t, generator).x_t, t, pair, node)
        contest = self.student_contest(logits, t, pair, node, generator)
        return Loss(self.adversary.weight * contest, pair, t, {"contest": contest})
