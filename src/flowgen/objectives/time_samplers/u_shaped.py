"""Times that lean towards both ends, for pairs fixed by a map (reflow).

There the loss in the middle is small already: what is left to learn sits where noise and data are
told apart. With an independent coupling this is the wrong density.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.objectives.time_samplers.protocol import inside, uniform_draws

_LARGEST = 50.0


@dataclass(frozen=True)
class UShaped:
    """Half of ``e^(a t)`` and half of ``e^(a (1 - t))``.

    Density ``a (e^(a t) + e^(a (1 - t))) / (2 (e^a - 1))``, symmetric; drawn as
    ``t = log1p(u (e^a - 1)) / a``, flipped to ``1 - t`` with probability 1/2.

    Args:
        a: In (0, 50]; the density at an end is ``cosh(a / 2)`` times that of the middle.

    Raises:
        InputError: If ``a`` is out of range.

    Source: Lee et al. 2024, arXiv 2405.20320, with ``a = 4``.
    """

    a: float = 4.0

    def __post_init__(self) -> None:
        """Check the slope."""
        if not 0 < self.a <= _LARGEST:
            raise InputError(f"a must be in (0, {_LARGEST:g}], got {self.a}")

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times; see :class:`TimeSampler`."""
        u = uniform_draws(n, generator, device)
        t = torch.log1p(u * math.expm1(self.a)) / self.a
        flipped = uniform_draws(n, generator, device) < 0.5
        return inside(torch.where(flipped, 1 - t, t))

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the density at times in [0, 1]."""
        both = torch.exp(-self.a * (1 - t)) + torch.exp(-self.a * t)
        return self.a * both / (-2 * math.expm1(-self.a))
