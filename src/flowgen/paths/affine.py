"""Affine paths: ``x_t = alpha x_1 + sigma x_0``, ``v_t = d_alpha x_1 + d_sigma x_0``."""

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Pair, PathPoint, expand
from flowgen.paths.path import Path


class AffinePath(Path):
    """The path of a schedule, the same for every pair; draws nothing.

    Args:
        schedule: How much data and noise there is at each time.
    """

    def sample(
        self, pair: Pair, t: Float[Tensor, " b"], *, generator: torch.Generator | None = None
    ) -> PathPoint:
        """Return the state and the velocity of each pair at its time.

        Args:
            pair: Aligned source and data, each ``(b, *d)``.
            t: Times in ``domain``, shape ``(b,)``, float32 or float64.
            generator: For paths with noise of their own; an affine path draws none.

        Returns:
            ``x_t`` and ``v_t`` in the dtype of the pair (computed in the wider of both), ``t`` and
            the coefficients there.

        Raises:
            InputError: If ``t`` has the wrong dtype.
            ValueError: If ``t`` is not one time per pair.
        """
        del generator
        c = self.coefficients(t)
        x_0, x_1 = pair.x_0, pair.x_1
        x_t = expand(c.alpha, x_1) * x_1 + expand(c.sigma, x_0) * x_0
        v_t = expand(c.d_alpha, x_1) * x_1 + expand(c.d_sigma, x_0) * x_0
        return PathPoint(x_t.to(x_1.dtype), v_t.to(x_1.dtype), t, c)
