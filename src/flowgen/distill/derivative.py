"""The change of a function of state and time along a field: ``D_w f = d f/ds + (grad_x f) w``.

Forward-mode differentiation gives it exactly, with the value, in about the time of two evaluations;
a difference quotient needs no forward mode and has an error of its own. Either is computed in
float32 at least, without automatic half precision, and is no part of the graph of gradients.
"""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowgen.core import InputError, expand
from flowgen.distill.forward_mode import jvp
from flowgen.distill.students import same_masks
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

    def __call__(
        self, function: Function, x: Tensor, s: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return ``f`` with its graph and ``D_w f`` without, each ``(b, *d)``.

        Both passes of a network drop the same features.

        Args:
            function: To differentiate.
            x: States ``(b, *d)``.
            s: Times ``(b,)``.
            w: The field at these states ``(b, *d)``.
        """
        ...


class Exact:
    """The derivative by forward-mode differentiation: one pass gives it and the value."""

    reach = 0.0

    def __call__(
        self, function: Function, x: Tensor, s: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return ``f`` and ``D_w f``, see :class:`Derivative`."""

        def both() -> tuple[Tensor, Tensor]:
            with math_attention():
                return jvp(function, (x, s), (w.to(x.dtype), torch.ones_like(s)))

        if not torch.is_autocast_enabled(x.device.type):
            return both()
        # The value may be in half precision, the derivative may not.
        with same_masks(x), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            _, derivative = both()
        return function(x, s), derivative


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

    def __call__(
        self, function: Function, x: Tensor, s: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return ``f`` and the quotient, see :class:`Derivative`."""
        later = s + self.reach

        def fixed(x: Tensor, s: Tensor) -> Tensor:
            with same_masks(x):
                return function(x, s)

        half, here = torch.is_autocast_enabled(x.device.type), None
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            ahead = fixed(x + expand(later - s, x) * w.to(x.dtype), later)
            if half:
                here = fixed(x, s)
        value = function(x, s)
        return value, (ahead - (value.detach() if here is None else here)) / self.reach
