"""Autoguidance: away from a weaker version of the same model.

``v = v_main + (scale - 1) (v_main - v_weak)``, the weak model being smaller or trained for a
shorter time, under the same condition. It improves quality without the loss of diversity that
guidance by the condition brings, and works for unconditional models.

Source: Karras et al. 2024, arXiv 2406.02507, eq. 4.
"""

import math

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, VelocityField, domain_of
from flowgen.paths import Path


class AutoGuided(nn.Module):
    """A velocity field, guided by a weaker one of the same path and data.

    Args:
        field: The main field.
        weak: The weaker field; evaluated beside the main one, which doubles the work.
        scale: At least 0, finite; 1 is off and evaluates the main field alone.

    Raises:
        InputError: If ``scale`` leaves its range, or the fields belong to different paths.
    """

    def __init__(self, field: VelocityField, weak: VelocityField, scale: float) -> None:
        super().__init__()
        if not (math.isfinite(scale) and scale >= 0):
            raise InputError(f"guidance.scale must be finite and at least 0, got {scale}")
        self.field = field
        self.weak = weak
        self.scale = float(scale)
        self.breaks: tuple[float, ...] = getattr(field, "breaks", ())
        low, high = self.domain
        if not low < high:
            raise InputError("the weak model is finite at other times than the main one")
        _check_same_path(field, weak, low, high)

    @property
    def domain(self) -> tuple[float, float]:
        """The closed range of times where both fields are finite."""
        (low, high), (weak_low, weak_high) = domain_of(self.field), domain_of(self.weak)
        return max(low, weak_low), min(high, weak_high)

    @property
    def path(self) -> Path | None:
        """The path of the field, None where it does not say."""
        return getattr(self.field, "path", None)

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the guided velocity ``(b, *d)`` at states ``x (b, *d)`` and times ``t (b,)``."""
        v = self.field(x, t, cond)
        if self.scale == 1.0:
            return v
        return v + (self.scale - 1.0) * (v - self.weak(x, t, cond))


def _check_same_path(field: VelocityField, weak: VelocityField, low: float, high: float) -> None:
    paths = [getattr(each, "path", None) for each in (field, weak)]
    if None in paths:
        return
    t = torch.linspace(low, high, 5)
    main, other = (path.coefficients(t) for path in paths if path is not None)
    for name in ("alpha", "sigma"):
        if not torch.allclose(getattr(main, name), getattr(other, name), atol=1e-5):
            raise InputError(
                "the weak model was trained on another path than the main one: their velocities "
                "cannot be compared; change its schedule with flowgen.paths.Rescheduled"
            )
