"""A field that is zero at first: the state waits at the source while the time advances.

Early in training the first velocities are worse than none (Fan et al. 2025, CFG-Zero*, arXiv
2503.18886, section 4.2). With a fixed grid the steps before ``until`` move nothing.
"""

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, VelocityField, domain_of, expand
from flowgen.paths import Path


class ZeroInit(nn.Module):
    """``v(x, t)`` from time ``until`` on, zero before; the field is not evaluated where it is zero.

    Args:
        field: The velocity field.
        until: In ``(0, 1)``; the paper takes about 4 % of the steps.

    Attributes:
        breaks: Times at which the field changes its form.

    Raises:
        InputError: If ``until`` leaves its range.
    """

    def __init__(self, field: VelocityField, until: float) -> None:
        super().__init__()
        if not 0.0 < until < 1.0:
            raise InputError(f"guidance.zero_until must be in [0, 1), got {until}")
        self.field = field
        self.until = until
        inner: tuple[float, ...] = getattr(field, "breaks", ())
        self.breaks: tuple[float, ...] = tuple(sorted({*inner, until}))

    @property
    def domain(self) -> tuple[float, float]:
        """The closed range of times where the field is finite."""
        return domain_of(self.field)

    @property
    def path(self) -> Path | None:
        """The path of the field, None where it does not say."""
        return getattr(self.field, "path", None)

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(b, *d)`` at states ``x (b, *d)`` and times ``t (b,)``."""
        moving = t >= self.until
        if not moving.any():
            return torch.zeros_like(x)
        v = self.field(x, t, cond)
        return torch.where(expand(moving, v), v, torch.zeros_like(v))
