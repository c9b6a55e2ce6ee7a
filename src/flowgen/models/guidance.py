"""Classifier-free guidance as a wrapper that is again a velocity field.

``v = v_null + scale (v_cond - v_null)``: 1 is off, 0 is unconditional, above 1 samples are more
typical of their condition and less diverse (Ho and Salimans 2022, arXiv 2207.12598, eq. 6, whose
``w`` is ``scale - 1``). The formula is affine with weights that sum to one, so it means the same
for the velocity, the data and the noise on one path.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, VelocityField, domain_of


class Guided(nn.Module):
    """A conditional velocity field, guided; conditional and null rows go in one batch.

    Args:
        field: Conditional velocity field.
        scale: Guidance scale, at least 0. At 1 and 0 the field runs once, on one of the two halves.
        null: Returns the empty condition of ``n`` samples on a device, with the same names as the
            conditions given later, e.g. ``LabelConditioner(...).null``.

    Raises:
        InputError: If ``scale`` is negative or not finite.
    """

    def __init__(
        self,
        field: VelocityField,
        scale: float,
        null: Callable[[int, torch.device], Condition],
    ) -> None:
        super().__init__()
        if not (math.isfinite(scale) and scale >= 0):
            raise InputError(f"guidance.scale must be finite and at least 0, got {scale}")
        self.field = field
        self.scale = float(scale)
        self.null = null

    @property
    def domain(self) -> tuple[float, float]:
        """The closed range of times where the guided field is finite: that of the field."""
        return domain_of(self.field)

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
        if self.scale == 1.0:
            return self.field(x, t, cond)
        null = self.null(len(x), x.device)
        if set(null) != set(cond):
            raise InputError(f"the null condition has {sorted(null)}, the given one {sorted(cond)}")
        if self.scale == 0.0:
            return self.field(x, t, null)
        both = {name: torch.cat([null[name], cond[name]]) for name in cond}
        v_null, v_cond = self.field(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return v_null + self.scale * (v_cond - v_null)
