"""How a state gets from the start of a jump to its middle, where the student's own map takes over.

By the pair's path (consistency training), a teacher's step (consistency distillation), a velocity
(alpha-flow) or the student's own jump (shortcuts, progressive self-distillation).
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from flowgen.core import FlowMap, Pair, PathPoint, VelocityField, expand
from flowgen.distill.frozen import Frozen
from flowgen.distill.velocities import VelocitySource
from flowgen.paths import Path


@runtime_checkable
class FirstStep(Protocol):
    """Carries states from ``s`` to ``r``."""

    def __call__(
        self, target: FlowMap, path: Path, pair: Pair, point: PathPoint, r: Tensor
    ) -> Tensor:
        """Return the states ``(b, *d)`` at times ``r (b,)``, without graph.

        Args:
            target: The map of the targets: the student itself or its average.
            path: From the source to the data.
            pair: Whose path the point is on.
            point: States at the starts.
            r: Times of the middles.
        """
        ...


class AlongPath:
    """The same pair's state at ``r``: no teacher is needed."""

    def __call__(
        self, target: FlowMap, path: Path, pair: Pair, point: PathPoint, r: Tensor
    ) -> Tensor:
        """Return the pair's states at ``r``, see :class:`FirstStep`."""
        del target, point
        return path.sample(pair, r).x_t


class AlongVelocity(nn.Module):
    """A straight step along a velocity: ``x + (r - s) v``.

    Args:
        velocity: Of the data, or of a teacher, whose Euler step it is.
    """

    def __init__(self, velocity: VelocitySource) -> None:
        super().__init__()
        self.velocity = velocity

    def forward(
        self, target: FlowMap, path: Path, pair: Pair, point: PathPoint, r: Tensor
    ) -> Tensor:
        """Return the states at ``r``, see :class:`FirstStep`."""
        del path
        v = self.velocity(target, point, pair.cond)
        return point.x_t + expand(r - point.t, v) * v


class TeacherHeun(nn.Module):
    """One step of a teacher by Heun's method: two of its evaluations, an error of third order.

    Args:
        teacher: The field to distil.
    """

    def __init__(self, teacher: VelocityField | None) -> None:
        super().__init__()
        self.teacher = Frozen.of(teacher)

    @torch.no_grad()
    def forward(
        self, target: FlowMap, path: Path, pair: Pair, point: PathPoint, r: Tensor
    ) -> Tensor:
        """Return the states at ``r``, see :class:`FirstStep`."""
        del target, path
        x, s, cond = point.x_t, point.t, pair.cond
        first = self.teacher(x, s, cond)
        h = expand(r - s, x)
        second = self.teacher(x + h * first, r, cond)
        return x + h * (first + second) / 2


class OwnJump:
    """The jump of the target's own map from ``s`` to ``r``."""

    @torch.no_grad()
    def __call__(
        self, target: FlowMap, path: Path, pair: Pair, point: PathPoint, r: Tensor
    ) -> Tensor:
        """Return the states at ``r``, see :class:`FirstStep`."""
        del path
        u = target.mean_velocity(point.x_t, point.t, r, pair.cond)
        return point.x_t + expand(r - point.t, u) * u.to(point.x_t.dtype)
