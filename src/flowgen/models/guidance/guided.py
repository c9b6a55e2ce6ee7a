"""Guidance by a condition, as a wrapper that is again a velocity field.

The field is evaluated without and with its condition, in one batch, and the two velocities are
combined: ``v = v_null + scale (v_cond - v_null)`` or a variant of it. Guidance can be limited to an
interval of times; outside, the conditional velocity alone is evaluated, at half the cost.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, VelocityField, domain_of, expand, is_shared
from flowgen.models.guidance.combine import Combine, Extrapolate
from flowgen.paths import Path

Null = Callable[[int, torch.device], Condition]
"""Returns the empty condition of ``n`` samples on a device."""


class Guided(nn.Module):
    """A conditional velocity field, guided; conditional and null rows go in one batch.

    Args:
        field: Conditional velocity field.
        combine: ``(v_null, v_cond) -> v``, or the scale of an :class:`Extrapolate`. At a scale of 1
            or 0 the field runs once, on one of the two halves.
        null: The empty condition, with the same names as the conditions given later, e.g.
            ``LabelConditioner(...).null``.
        interval: Guide at times ``low <= t < high`` only; None guides always.

    Attributes:
        breaks: Times at which the field changes its form; a sampler should have them as nodes.

    Raises:
        InputError: If the scale is negative or not finite, or the interval is not one.

    Source of the interval: Kynkaanniemi et al. 2024, arXiv 2404.07724.
    """

    def __init__(
        self,
        field: VelocityField,
        combine: Combine | float,
        null: Null,
        *,
        interval: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.field = field
        self.combine = Extrapolate(float(combine)) if isinstance(combine, int | float) else combine
        self.null = null
        self.interval = None if interval is None else check_interval(interval)
        inner: tuple[float, ...] = getattr(field, "breaks", ())
        edges = [edge for edge in self.interval or () if 0.0 < edge < 1.0]
        self.breaks: tuple[float, ...] = tuple(sorted({*inner, *edges}))

    @property
    def domain(self) -> tuple[float, float]:
        """The closed range of times where the guided field is finite: that of the field."""
        return domain_of(self.field)

    @property
    def path(self) -> Path | None:
        """The path of the field, None where it does not say."""
        return getattr(self.field, "path", None)

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the guided velocity, shape ``(b, *d)``.

        Args:
            x: States, shape ``(b, *d)``.
            t: Times, shape ``(b,)``.
            cond: Conditions of the samples; must be given.

        Raises:
            InputError: If there is no condition, or it has other names than the null condition.
        """
        if not cond:
            raise InputError("guidance needs a condition: pass cond, or use the field unguided")
        scale = self.combine.scale if isinstance(self.combine, Extrapolate) else None
        if scale == 1.0:
            return self.field(x, t, cond)
        inside = None
        if self.interval is not None:
            low, high = self.interval
            inside = (t >= low) & (t < high)
            # A graph that is traced knows no values.
            if not torch.compiler.is_exporting() and not inside.any():
                return self.field(x, t, cond)
        null = self.null(x.shape[0], x.device)
        if set(null) != set(cond):
            raise InputError(f"the null condition has {sorted(null)}, the given one {sorted(cond)}")
        if scale == 0.0 and inside is None:
            return self.field(x, t, null)
        times = t[:1].expand(2 * t.shape[0]) if is_shared(t) else torch.cat([t, t])
        both = {name: torch.cat([null[name], cond[name]]) for name in cond}
        both_v = self.field(torch.cat([x, x]), times, both)
        v_null, v_cond = both_v[: x.shape[0]], both_v[x.shape[0] :]
        v = self.combine(v_null, v_cond)
        return v if inside is None else torch.where(expand(inside, v), v, v_cond)


def check_interval(interval: tuple[float, float]) -> tuple[float, float]:
    """Return the interval as two numbers.

    Raises:
        InputError: Unless they are two, rising and in ``[0, 1]``.
    """
    ends = [float(end) for end in interval]
    if len(ends) != 2 or not 0.0 <= ends[0] < ends[1] <= 1.0:
        raise InputError(
            f"guidance.interval must be two rising times in [0, 1], e.g. [0.25, 0.8], got {ends}"
        )
    return ends[0], ends[1]
