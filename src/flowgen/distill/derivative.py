"""The change of a function of state and time along a field: ``D_w f = d f/ds + (grad_x f) w``.

Forward-mode differentiation gives it exactly in about the time of two evaluations; a difference
quotient needs no forward mode and has an error of its own. Either is computed in float32 at least,
without automatic half precision, and is no part of the graph of gradients.
"""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowgen.core import InputError, expand
from flowgen.models import math_attention

Function = Callable[[Tensor, Tensor], Tensor]
"""``(x, s) -> f``: states ``(b, *d)`` and times ``(b,)`` to values ``(b, *d)``."""


@runtime_checkable
class Derivative(Protocol):
    """A way to differentiate along a field.

    Attributes:
        reach: How far from ``s`` the function is asked, in time; 0 for an exact derivative.
    """

    reach: float

    def __call__(self, function: Function, x: Tensor, s: Tensor, w: Tensor) -> Tensor:
        """Return ``D_w f (b, *d)`` at states ``x (b, *d)`` and times ``s (b,)``, without graph."""
        ...


class Exact:
    """The derivative by forward-mode differentiation (one Jacobian-vector product)."""

    reach = 0.0

    def __call__(self, function: Function, x: Tensor, s: Tensor, w: Tensor) -> Tensor:
        """Return ``D_w f (b, *d)``, see :class:`Derivative`."""
        with torch.no_grad(), math_attention(), torch.autocast(x.device.type, enabled=False):
            tangents = (w.to(x.dtype), torch.ones_like(s))
            derivative = torch.func.jvp(function, (x, s), tangents)[1]
        return derivative.detach()


class Difference:
    """``(f(x + h w, s + h) - f(x, s)) / h``: two evaluations, an error of order ``h``.

    Args:
        h: Step in time, in ``(0, 0.5)``; below 1e-3 rounding shows.

    Attributes:
        reach: ``h``.

    Raises:
        InputError: If ``h`` leaves its range.

    Source: Zhou et al. 2025, arXiv 2509.04406, eq. 14 (``h = 0.01``).
    """

    def __init__(self, h: float = 0.01) -> None:
        if not (math.isfinite(h) and 0 < h < 0.5):
            raise InputError(f"h must be in (0, 0.5), got {h}")
        self.reach = float(h)

    def __call__(self, function: Function, x: Tensor, s: Tensor, w: Tensor) -> Tensor:
        """Return the quotient ``(b, *d)``, see :class:`Derivative`."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            later = s + self.reach
            ahead = function(x + expand(later - s, x) * w.to(x.dtype), later)
            return (ahead - function(x, s)) / self.reach
