"""Powers of time: the linear path visited faster at one end."""

import math

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError
from flowgen.paths.schedule import SINGULAR_GAP, Schedule


class Polynomial(Schedule):
    """``alpha = t^power``, ``sigma = 1 - t^power``.

    A power below 1 starts with infinite slope, so its domain starts at ``t = 1e-5``. A power above
    1 starts at rest: the velocity is 0 at ``t = 0``, and cannot tell data from noise there.

    Args:
        power: Positive; 1 is :class:`Linear`.

    Raises:
        InputError: If ``power`` is not positive and finite.

    Source: Lipman et al. 2024, arXiv 2412.06264, section 4.8.
    """

    def __init__(self, power: float) -> None:
        super().__init__()
        if not 0 < power < math.inf:
            raise InputError(f"power must be positive and finite, got {power}")
        self.power = float(power)
        self.domain = (0.0 if self.power >= 1 else SINGULAR_GAP, 1.0)

    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients; see :meth:`Schedule.forward`."""
        alpha = t**self.power
        d_alpha = self.power * t ** (self.power - 1)
        return Coefficients(alpha, 1 - alpha, d_alpha, -d_alpha)

    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time of a ratio; see :meth:`Schedule.time_of`."""
        return self._into_domain((alpha / (alpha + sigma)) ** (1 / self.power))
