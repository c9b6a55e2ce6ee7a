"""Distribution matching: samples are moved from where they are too dense to where data are.

A sample ``x`` of the student is noised to ``x_t``. There the teacher and a critic that has learnt
the student's samples each say what they would denoise it to. The difference of the two is that of
the scores, times ``sigma^2 / alpha``, and so a direction in which the Kullback-Leibler divergence
of the noised marginals falls:

    ``gradient = (E_samples[x_1 | x_t] - E_teacher[x_1 | x_t]) / mean |x - E_teacher[x_1 | x_t]|``.

What noise a sample comes from plays no part: the student need not lead where the teacher leads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from flowgen.core import InputError, Loss, Pair, PathPoint, VelocityField, expand, mean_over_dims
from flowgen.distill.adversary import Adversary
from flowgen.distill.critic import Critic
from flowgen.distill.critic_objective import CriticObjective, MakeOptimizer
from flowgen.distill.density_ratio import DensityRatio
from flowgen.distill.frozen import Frozen
from flowgen.distill.regression import Regression
from flowgen.objectives import TimeSampler
from flowgen.paths import Data, Path, Velocity, convert

_SMALL = 1e-6  # a mean distance below it is rounding


class DistributionMatching(CriticObjective):
    """The objective ``|x - stopgrad(x - gradient)|^2 / 2`` with a critic that learns along.

    The value says how far apart critic and teacher are and falls little; it is no measure of
    quality. With a regression it is DMD, with several nodes or an adversary DMD2, with a density
    ratio f-distill.

    Args:
        path: From standard normal noise to the data; affine.
        teacher: Its marginals are matched; guided or not.
        critic: Starts as the teacher; with a head if there is an adversary or a density ratio.
        critic_optimizer: From the critic's parameters to their optimiser.
        critic_steps: Steps of the critic for each step of the student, at least 1.
        critic_times: Where the critic learns; uniform if None.
        times: Where the student is judged; uniform if None, then drawn into the margins.
        margin: Time kept from both ends, in ``[0, 0.5)``.
        nodes: Where the student jumps from when it samples; 0 alone for one jump.
        adversary: A contest with the critic's head; none if None.
        density_ratio: Weights of samples for another divergence; none if None.
        regression: Of some samples on the teacher's own; none if None.

    Raises:
        InputError: If a number leaves its range, or the parts do not fit together.

    Source: Yin et al. 2023 (DMD), arXiv 2311.18828, eqs. 7 and 8; 2024 (DMD2), arXiv 2405.14867;
        Xu et al. 2025 (f-distill), arXiv 2502.15681.
    """

    matches_velocity = True

    def __init__(
        self,
        path: Path,
        teacher: VelocityField,
        critic: Critic,
        *,
        critic_optimizer: MakeOptimizer,
        critic_steps: int = 5,
        critic_times: TimeSampler | None = None,
        times: TimeSampler | None = None,
        margin: float = 0.02,
        nodes: Sequence[float] = (0.0,),
        adversary: Adversary | None = None,
        density_ratio: DensityRatio | None = None,
        regression: Regression | None = None,
    ) -> None:
        super().__init__(
            path,
            critic,
            critic_optimizer=critic_optimizer,
            critic_steps=critic_steps,
            critic_times=critic_times,
            times=times,
            margin=margin,
            nodes=nodes,
            adversary=adversary,
        )
        if density_ratio is not None and (adversary is None or adversary.contest.relative):
            raise InputError(
                "a density ratio comes from the head of a critic in a contest that is not "
                "relativistic: give an adversary with Logistic, of any weight"
            )
        self.teacher = teacher if isinstance(teacher, Frozen) else Frozen(teacher)
        self.density_ratio = density_ratio
        self.regression = regression

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of one sample for the condition of each pair.

        Args:
            model: A flow map that leads to the data at once.
            pair: Conditions; data for an adversary; the source of a regression.
            step: Optimiser steps taken before.
            generator: Draws noise and times.

        Returns:
            The loss ``(b,)`` at the times of the comparison, and the terms ``gradient`` (root of
            the mean square of the gradient), ``contest`` and ``regression`` where there are any.

        Raises:
            InputError: If the model is no such map.
        """
        x = self.generate(model, pair.x_1, pair.cond, step=step, generator=generator)
        t = self.draw_times(pair, generator)
        point = self.noised(x, t, generator)
        node = self.generate.which(x, step)
        contest = self.adversary is not None and self.adversary.weight > 0
        with torch.set_grad_enabled(contest and torch.is_grad_enabled()):
            velocity, logits = self.critic(point.x_t, t, pair.cond, node=node)
        push = self._push(x.detach(), point, velocity.detach(), pair)
        if self.density_ratio is not None:
            assert logits is not None
            push = expand(self.density_ratio(logits.detach(), t), push).to(push.dtype) * push
        value = 0.5 * mean_over_dims((x - (x.detach() - push)).square())
        terms = {"gradient": mean_over_dims(push.square()).sqrt()}
        if contest:
            assert self.adversary is not None
            assert logits is not None
            terms["contest"] = self.student_contest(logits, t, pair, node, generator)
            value = value + self.adversary.weight * terms["contest"]
        if self.regression is not None:
            error = self.regression(model, self.teacher, self.path, pair)
            terms["regression"] = error
            share = len(pair) / len(error)
            value = value + self.regression.weight * share * pad(error, (0, len(pair) - len(error)))
        return Loss(value, pair, t, terms)

    @torch.no_grad()
    def _push(self, x: Tensor, point: PathPoint, velocity: Tensor, pair: Pair) -> Tensor:
        """Return the gradient of each sample, ``(b, *d)``."""
        x_t = point.x_t.detach()
        of_teacher = self.teacher(x_t, point.t, pair.cond)
        fake, real = (
            convert(v, x_t, point.coefficients, Velocity(), Data()) for v in (velocity, of_teacher)
        )
        scale = mean_over_dims((x - real).abs()).clamp(min=_SMALL)
        return ((fake - real) / expand(scale, x)).to(x.dtype)
