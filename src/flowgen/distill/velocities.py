"""Where the velocity comes from that a flow map is trained to follow: the data, or a teacher.

Training and distilling differ in this alone. The velocity of a pair has the marginal velocity as
its mean, and the targets of flow maps are linear in it, so it serves in its place, with more
variance (Geng et al. 2025, arXiv 2505.13447, section 4.1).
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from flowgen.core import (
    Condition,
    FlowMap,
    InputError,
    NullCondition,
    PathPoint,
    VelocityField,
    expand,
)
from flowgen.distill.frozen import Frozen
from flowgen.distill.students import same_masks


@runtime_checkable
class VelocitySource(Protocol):
    """Says the velocity at the points of a batch."""

    def __call__(self, model: FlowMap, point: PathPoint, cond: Condition | None) -> Tensor:
        """Return the velocity ``(b, *d)`` at ``point``, without graph.

        Dropout masks, if any, are drawn as one pass of the student over these rows draws them:
        objectives have it drop the same features as the pass that it is compared with.

        Args:
            model: The student.
            point: States, times and the velocities of the pairs.
            cond: Conditions of the rows.
        """
        ...


class OfData:
    """The velocity of the pair: training without a teacher."""

    def __call__(self, model: FlowMap, point: PathPoint, cond: Condition | None) -> Tensor:
        """Return ``point.v_t``."""
        del model, cond
        return point.v_t


class OfTeacher(nn.Module):
    """The velocity of a teacher, guided or not: distillation.

    Args:
        teacher: The field to distil.

    Raises:
        InputError: If there is none.
    """

    def __init__(self, teacher: VelocityField | None) -> None:
        super().__init__()
        self.teacher = Frozen.of(teacher)

    def forward(self, model: FlowMap, point: PathPoint, cond: Condition | None) -> Tensor:
        """Return the teacher's velocity ``(b, *d)``, see :class:`VelocitySource`."""
        del model
        return self.teacher(point.x_t, point.t, cond)


class OfStudent:
    """The student's own velocity ``u(x, s, s)``: self-distillation."""

    @torch.no_grad()
    def __call__(self, model: FlowMap, point: PathPoint, cond: Condition | None) -> Tensor:
        """Return the student's velocity ``(b, *d)``, see :class:`VelocitySource`."""
        return model.mean_velocity(point.x_t, point.t, point.t, cond)


class OfDataGuided(nn.Module):
    """A guided velocity from data and the student itself, without a teacher.

    ``omega v_t + (1 - omega - kappa) u(x, s, s | null) + kappa u(x, s, s | cond)``, whose fixed
    point is classifier-free guidance of scale ``omega / (1 - kappa)``. Rows without condition and
    times outside ``[low, high]`` keep the velocity of the pair.

    Args:
        omega: Weight of the pair's velocity, > 0.
        kappa: Weight of the student's conditional velocity, in ``[0, 1)``.
        low: First guided time.
        high: Last guided time.

    Raises:
        InputError: If a number leaves its range.

    Source: Geng et al. 2025, arXiv 2505.13447, appendix A.2 (eq. 21).
    """

    def __init__(self, omega: float, kappa: float, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        if not omega > 0:
            raise InputError(f"omega must be > 0, got {omega}")
        if not 0 <= kappa < 1:
            raise InputError(f"kappa must be in [0, 1), got {kappa}")
        if not 0 <= low < high <= 1:
            raise InputError(f"low and high must satisfy 0 <= low < high <= 1, got {low}, {high}")
        self.omega, self.kappa = float(omega), float(kappa)
        self.low, self.high = float(low), float(high)
        self._null: NullCondition | None = None
        self._row: dict[str, Tensor] = {}

    def use_null(self, null: NullCondition | None) -> None:
        """Take what makes conditions that mean "none", as a conditioner's ``null`` does.

        Raises:
            InputError: If the model takes no conditions.
        """
        if null is None:
            raise InputError("guidance from data needs a model with labels or other conditions")
        self._null, self._row = null, {}

    @torch.no_grad()
    def forward(self, model: FlowMap, point: PathPoint, cond: Condition | None) -> Tensor:
        """Return the guided velocity ``(b, *d)``, see :class:`VelocitySource`.

        Raises:
            InputError: If no condition that means "none" is known.
        """
        x, t = point.x_t, point.t
        null = self._nulls(len(x), x.device)
        assert cond is not None
        mixed = self.omega * point.v_t
        none = {**cond, **null}
        with same_masks(x):
            free = model.mean_velocity(x, t, t, none)
        mixed = mixed + (1 - self.omega - self.kappa) * free
        mixed = mixed + self.kappa * model.mean_velocity(x, t, t, cond)
        told = torch.zeros_like(t, dtype=torch.bool)
        for name, value in null.items():
            told = told | (cond[name] != value).reshape(len(x), -1).any(dim=1)
        guided = told & (t >= self.low) & (t <= self.high)
        return torch.where(expand(guided, x), mixed, point.v_t)

    def _nulls(self, n: int, device: torch.device) -> dict[str, Tensor]:
        if self._null is None:
            raise InputError('guidance from data needs the condition that means "none": use_null()')
        if not self._row or next(iter(self._row.values())).device != device:
            # One for all steps: a text encoder may be slow.
            self._row = dict(self._null(1, device))
        return {name: row.expand(n, *row.shape[1:]) for name, row in self._row.items()}
