"""Straight lines from noise to data: conditional optimal transport, rectified flow."""

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError
from flowgen.paths.schedule import Schedule


class Linear(Schedule):
    """``alpha = t``, ``sigma = 1 - (1 - sigma_min) t``.

    With ``sigma_min > 0`` the path ends at the data blurred by noise of that standard deviation,
    and nothing is singular at ``t = 1``.

    Args:
        sigma_min: Noise left at ``t = 1``, in ``[0, 1)``, in units of the source.

    Raises:
        InputError: If ``sigma_min`` is out of range.

    Source: Lipman et al. 2023, arXiv 2210.02747, eq. 20; Liu et al. 2022, arXiv 2209.03003, eq. 1
        for ``sigma_min = 0``.
    """

    def __init__(self, sigma_min: float = 0.0) -> None:
        super().__init__()
        if not 0 <= sigma_min < 1:
            raise InputError(f"sigma_min must be in [0, 1), got {sigma_min}")
        self.sigma_min = float(sigma_min)
        self.slope = 1.0 - self.sigma_min

    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients; see :meth:`Schedule.forward`."""
        # (1 - t) first: its rounding error vanishes with it, that of slope * t does not.
        sigma = (1 - t) + self.sigma_min * t
        return Coefficients(t, sigma, torch.ones_like(t), torch.full_like(t, -self.slope))

    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time of a ratio; see :meth:`Schedule.time_of`."""
        return self._into_domain(alpha / (sigma + self.slope * alpha))
