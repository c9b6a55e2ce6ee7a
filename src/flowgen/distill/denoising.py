"""A plain regression of the data, where little noise leaves little to learn otherwise."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, Pair, mean_over_dims
from flowgen.paths import Path


class Denoising:
    """``(1 / l^2 + 1 / std^2) |X - x_1|^2`` at little noise: ``l = sigma / alpha <= level``.

    It holds the map near the data, where all other times have their targets from; ``X`` is the end
    that the objective has computed already.

    Args:
        weight: Beside the mean of the objective's own loss, above 0.
        level: Largest level, above 0. The default is the quarter of the grid of iCT with the least
            noise.
        data_std: Of the data, above 0.
        smallest: Level below which the factor grows no more, above 0.

    Raises:
        InputError: If a number leaves its range.

    Source: Dao et al. 2025, arXiv 2502.01441, and the released code.
    """

    def __init__(
        self,
        weight: float = 5.0,
        *,
        level: float = 0.17,
        data_std: float = 0.5,
        smallest: float = 0.002,
    ) -> None:
        numbers = (
            ("weight", weight),
            ("level", level),
            ("data_std", data_std),
            ("smallest", smallest),
        )
        for name, value in numbers:
            if not 0 < value < math.inf:
                raise InputError(f"denoising.{name} must be positive and finite, got {value}")
        self.weight, self.level = float(weight), float(level)
        self.data_std, self.smallest = float(data_std), float(smallest)

    def __call__(
        self, path: Path, pair: Pair, ends: Float[Tensor, "b *d"], s: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the loss of each row, 0 above ``level``; its mean is ``weight`` times that below.

        Args:
            path: From the source to the data.
            pair: Whose data are regressed.
            ends: Where the map leads to.
            s: Times where it starts.
        """
        c = path.coefficients(s)
        chosen = (c.sigma <= self.level * c.alpha).to(s)
        level = (c.sigma / c.alpha.clamp(min=1e-6)).clamp(min=self.smallest)
        factor = level**-2 + self.data_std**-2
        wide = torch.promote_types(ends.dtype, torch.float32)
        error = mean_over_dims((ends.to(wide) - pair.x_1.to(wide)).square())
        share = chosen.mean().clamp(min=1 / len(s))
        return self.weight * chosen * factor * error / share
