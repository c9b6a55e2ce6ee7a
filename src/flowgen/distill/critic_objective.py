"""What objectives with a critic share: the samples that it sees, and what it learns from them.

The training loop takes one step of the student and then ``critic_steps`` steps of the critic with
an optimiser of its own, on the conditions and data of the same batch and fresh noise.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flowgen.core import InputError, Loss, Pair, PathPoint, VelocityField, mean_over_dims
from flowgen.distill.adversary import Adversary
from flowgen.distill.critic import Critic
from flowgen.distill.generator import Generator, normal
from flowgen.objectives import TimeSampler, Uniform
from flowgen.objectives.flow_matching import times_for
from flowgen.paths import Path

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
"""From parameters to their optimiser, e.g. a partial ``AdamW``."""


class CriticObjective(nn.Module, ABC):
    """An objective of a student beside a critic.

    Args:
        path: From standard normal noise to the data; affine.
        critic: Learns along; with a head if there is an adversary.
        critic_optimizer: From the critic's parameters to their optimiser.
        critic_steps: Steps of the critic for each step of the student, at least 1.
        critic_times: Where the critic learns; uniform if None.
        times: Where the student is judged; uniform if None, then drawn into the margins.
        margin: Time kept from both ends, in ``[0, 0.5)``.
        nodes: Where the student jumps from when it samples, see :class:`Generator`.
        adversary: A contest of student and critic; none if None.

    Raises:
        InputError: If a number leaves its range, or the parts do not fit together.
    """

    matches_velocity: bool
    """Whether the critic learns the velocity of the samples."""

    def __init__(
        self,
        path: Path,
        critic: Critic,
        *,
        critic_optimizer: MakeOptimizer,
        critic_steps: int,
        critic_times: TimeSampler | None,
        times: TimeSampler | None,
        margin: float,
        nodes: Sequence[float],
        adversary: Adversary | None,
    ) -> None:
        super().__init__()
        if critic_steps < 1:
            raise InputError(f"critic_steps must be >= 1, got {critic_steps}")
        if not 0 <= margin < 0.5:
            raise InputError(f"margin must be in [0, 0.5), got {margin}")
        if adversary is not None and critic.head is None:
            raise InputError("an adversary needs a critic with a head: give critic.layer")
        if len(nodes) != critic.nodes:
            raise InputError(
                f"the critic is built for samples from {critic.nodes} nodes, and the student jumps "
                f"from {len(nodes)}: give both alike"
            )
        self.path = path
        self.critic = critic
        self.critic_optimizer = critic_optimizer
        self.critic_steps = int(critic_steps)
        self.critic_times: TimeSampler = Uniform() if critic_times is None else critic_times
        self.times: TimeSampler = Uniform() if times is None else times
        self.margin = float(margin)
        self.generate = Generator(path, nodes)
        self.adversary = adversary

    @abstractmethod
    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of the student; see :class:`flowgen.core.Objective`."""

    def critic_loss(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of the critic on one sample of the student for each pair.

        Args:
            model: The student.
            pair: Data and conditions.
            step: Optimiser steps of the student taken before.
            generator: Draws noise and times.

        Returns:
            The loss ``(b,)`` at its times, and the terms ``velocity`` (squared error of the
            velocity) and ``contest`` with ``logits`` (of data less those of samples).
        """
        with torch.no_grad():
            x = self.generate(model, pair.x_1, pair.cond, step=step, generator=generator)
        t = times_for(self.path, self.critic, self.critic_times, pair, generator)
        point = self.noised(x, t, generator)
        node = self.generate.which(x, step)
        velocity, logits = self.critic(point.x_t, t, pair.cond, node=node)
        value = torch.zeros_like(t)
        terms: dict[str, Tensor] = {}
        if self.matches_velocity:
            terms["velocity"] = mean_over_dims((velocity - point.v_t).square())
            value = value + terms["velocity"]
        if self.adversary is not None:
            assert logits is not None
            real = self.noised(pair.x_1, t, generator).x_t
            data = self.logits(real, t, pair, node)
            terms["contest"] = self.adversary.contest.critic(logits, data)
            terms["logits"] = data - logits
            value = value + self.adversary.of_critic * terms["contest"]
            if self.adversary.smoothness > 0:
                away = real + self.adversary.radius * normal(real, generator)
                bend = (data - self.logits(away, t, pair, node)).square()
                value = value + self.adversary.of_critic * self.adversary.smoothness * bend
        return Loss(value, pair, t, terms)

    def noised(self, x: Tensor, t: Tensor, generator: torch.Generator | None) -> PathPoint:
        """Return samples ``(b, *d)`` with fresh noise, at times ``t (b,)``."""
        return self.path.sample(Pair(normal(x, generator), x), t)

    def logits(self, x: Tensor, t: Tensor, pair: Pair, node: Tensor) -> Tensor:
        """Return the critic's logits ``(b,)`` of noised states ``x (b, *d)``."""
        logits = self.critic(x, t, pair.cond, node=node)[1]
        assert logits is not None
        return logits

    def draw_times(self, pair: Pair, generator: torch.Generator | None) -> Tensor:
        """Return times ``(b,)`` at which the student is judged."""
        t = times_for(self.path, self.critic, self.times, pair, generator)
        return self.margin + (1 - 2 * self.margin) * t

    def student_contest(
        self,
        logits: Tensor,
        t: Tensor,
        pair: Pair,
        node: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Return the student's loss ``(b,)`` in the contest, from the logits of its samples."""
        assert self.adversary is not None
        contest = self.adversary.contest
        data = logits.detach()
        if contest.relative:
            with torch.no_grad():
                data = self.logits(self.noised(pair.x_1, t, generator).x_t, t, pair, node)
        return contest.student(logits, data)
