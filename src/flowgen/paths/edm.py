"""EDM's noise levels as a bounded path.

EDM adds noise of level ``s`` to data, ``x = x_1 + s x_0``, and its states grow to 80. Dividing by
``1 + s`` gives the same ratio on the bounded line ``alpha + sigma = 1``; the velocity of EDM's own
unbounded states is never regressed.
"""

import math

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError
from flowgen.paths.schedule import Schedule


class EDM(Schedule):
    """``alpha = 1 / (1 + s)``, ``sigma = s / (1 + s)`` with EDM's levels ``s(t)``.

    ``s = (sigma_max^(1/rho) + t (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho``: a uniform grid in
    ``t`` is EDM's grid of levels (EDM then adds one step from ``sigma_min`` to 0). At ``t = 0`` the
    state is ``80/81 x_0 + 1/81 x_1`` for the defaults: start from ``sigma(0) x_0``, not from
    ``x_0``. Nothing is singular in ``[0, 1]``.

    Args:
        sigma_min: Smallest level, above 0, at ``t = 1``, in units of the data.
        sigma_max: Largest level, above ``sigma_min``, at ``t = 0``.
        rho: At least 1; how much the grid leans towards low noise.

    Raises:
        InputError: If not ``0 < sigma_min < sigma_max`` or ``rho < 1``.

    Source: Karras et al. 2022, arXiv 2206.00364, eq. 5.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        super().__init__()
        if not 0 < sigma_min < sigma_max < math.inf:
            raise InputError(
                f"sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, "
                f"got {sigma_min} and {sigma_max}"
            )
        if not 1 <= rho < math.inf:
            raise InputError(f"rho must be at least 1 and finite, got {rho}")
        self.sigma_min, self.sigma_max, self.rho = float(sigma_min), float(sigma_max), float(rho)
        self.root_min = self.sigma_min ** (1 / self.rho)
        self.root_max = self.sigma_max ** (1 / self.rho)

    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients; see :meth:`Schedule.forward`."""
        root = (1 - t) * self.root_max + t * self.root_min
        level = root**self.rho
        d_level = self.rho * root ** (self.rho - 1) * (self.root_min - self.root_max)
        alpha = 1 / (1 + level)
        d_sigma = d_level * alpha.square()
        return Coefficients(alpha, level * alpha, -d_sigma, d_sigma)

    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time of a ratio; see :meth:`Schedule.time_of`."""
        level = (sigma / alpha).clamp(self.sigma_min, self.sigma_max)
        root = level ** (1 / self.rho)
        return self._into_domain((self.root_max - root) / (self.root_max - self.root_min))
