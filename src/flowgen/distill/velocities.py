"""Where the velocity comes from that a flow map is trained to follow: the data, or a teacher.

Training and distilling differ in this alone. The velocity of a pair has the marginal velocity as
its mean, and the targets of flow maps are linear in it, so it serves in its place, with more
variance (Geng et al. 2025, arXiv 2505.13447, section 4.1).
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from flowgen.core import Condition, FlowMap, InputError, PathPoint, VelocityField, expand
from flowgen.distill.frozen import Frozen
from flowgen.distill.students import labels_alone
from flowgen.models import Classes


@runtime_checkable
class VelocitySource(Protocol):
    """Says the velocity at the points of a batch."""

    def __call__(self, model: FlowMap, point: PathPoint, cond: Condition | None) -> Tensor:
        """Return the velocity ``(b, *d)`` at ``point``, without graph.

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


class OfDataGuided:
    """A guided velocity from data and the student itself, without a teacher.

    ``omega v_t + (1 - omega - kappa) u(x, s, s | null) + kappa u(x, s, s | cond)``, whose fixed
    point is classifier-free guidance of scale ``omega / (1 - kappa)``. Rows with the null label
    and times outside ``[low, high]`` keep the velocity of the pair.

    Args:
        omega: Weight of the pair's velocity, > 0.
        kappa: Weight of the student's conditional velocity, in ``[0, 1)``.
        num_classes: Number of labels, which is also the null label.
        low: First guided time.
        high: Last guided time.

    Raises:
        InputError: If a number leaves its range.

    Source: Geng et al. 2025, arXiv 2505.13447, appendix A.2 (eq. 21).
    """

    def __init__(
        self,
        omega: float,
        kappa: float,
        num_classes: Classes,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        if num_classes is None:
            raise InputError("guidance from data needs a model with labels")
        if not isinstance(num_classes, int):
            raise InputError(
                "guidance from data knows labels alone, and the model also takes other conditions: "
                "use another method, or a teacher with conditional=[label]"
            )
        if not omega > 0:
            raise InputError(f"omega must be > 0, got {omega}")
        if not 0 <= kappa < 1:
            raise InputError(f"kappa must be in [0, 1), got {kappa}")
        if not 0 <= low < high <= 1:
            raise InputError(f"low and high must satisfy 0 <= low < high <= 1, got {low}, {high}")
        self.omega, self.kappa, self.num_classes = float(omega), float(kappa), num_classes
        self.low, self.high = float(low), float(high)

    @torch.no_grad()
    def __call__(self, model: FlowMap, point: PathPoint, cond: Condition | None) -> Tensor:
        """Return the guided velocity ``(b, *d)``, see :class:`VelocitySource`."""
        labels_alone(cond, "guidance from data")
        assert cond is not None
        label = cond["label"]
        null = {**cond, "label": torch.full_like(label, self.num_classes)}
        x, t = point.x_t, point.t
        mixed = self.omega * point.v_t
        mixed = mixed + (1 - self.omega - self.kappa) * model.mean_velocity(x, t, t, null)
        mixed = mixed + self.kappa * model.mean_velocity(x, t, t, cond)
        guided = (label != self.num_classes) & (t >= self.low) & (t <= self.high)
        return torch.where(expand(guided, x), mixed, point.v_t)
