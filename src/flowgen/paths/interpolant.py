"""Stochastic interpolants: a path with noise of its own, whose score is known after any coupling.

    ``x_t = alpha x_1 + sigma x_0 + gamma z``, ``z`` standard normal, independent of the pair.

The velocity of the marginals is ``b = E[d_alpha x_1 + d_sigma x_0 + d_gamma z | x_t]`` and their
score is ``s = -E[z | x_t] / gamma``, whatever the joint law of ``x_0`` and ``x_1``: the noise that
the score speaks of is ``z`` and not ``x_0``. So with ``E[z | x_t]`` learnt beside the velocity

    ``dX = b dt`` and ``dX = (b + epsilon s) dt + sqrt(2 epsilon) dW`` for any ``epsilon >= 0``

have the same marginals, for data to data as well as for noise to data.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, Pair, PathPoint, expand
from flowgen.paths.latent_noise import LatentNoise
from flowgen.paths.path import Path
from flowgen.paths.schedule import Schedule


class StochasticInterpolant(Path):
    """The path of a schedule with latent noise.

    Args:
        schedule: How much data and source there is at each time.
        noise: How much latent noise.
        margin: Distance kept from both ends, in (0, 0.5): there the noise is 0, the score infinite
            and, for a Brownian bridge, the mean square of the velocity too.

    Raises:
        InputError: If ``margin`` is out of range.

    Source: Albergo, Boffi and Vanden-Eijnden 2023, arXiv 2303.08797, definition 2.1 and theorem
        2.6; Tong et al. 2024, arXiv 2307.03672, for the Brownian bridge.
    """

    def __init__(self, schedule: Schedule, noise: LatentNoise, *, margin: float = 1e-3) -> None:
        super().__init__(schedule)
        if not 0 < margin < 0.5:
            raise InputError(f"margin must be in (0, 0.5), got {margin}")
        self.noise = noise
        self.margin = margin

    @property
    def domain(self) -> tuple[float, float]:
        """That of the schedule without the margins at 0 and 1."""
        low, high = self.schedule.domain
        return max(low, self.margin), min(high, 1 - self.margin)

    def sample(
        self, pair: Pair, t: Float[Tensor, " b"], *, generator: torch.Generator | None = None
    ) -> PathPoint:
        """Return state, velocity and latent noise of each pair at its time.

        Args:
            pair: Aligned source and data, each ``(b, *d)``.
            t: Times in ``domain``, shape ``(b,)``, float32 or float64.
            generator: Draws the latent noise.

        Returns:
            ``x_t``, ``v_t`` and the noise ``z``, each in the dtype of the pair, ``t`` and the
            coefficients there.

        Raises:
            InputError: If ``t`` has the wrong dtype.
            ValueError: If ``t`` is not one time per pair.
        """
        c = self.coefficients(t)
        gamma, d_gamma = self.noise(t)
        x_0, x_1 = pair.x_0, pair.x_1
        z = torch.randn(x_1.shape, generator=generator, device=x_1.device, dtype=x_1.dtype)
        x_t = expand(c.alpha, x_1) * x_1 + expand(c.sigma, x_0) * x_0 + expand(gamma, z) * z
        v_t = expand(c.d_alpha, x_1) * x_1 + expand(c.d_sigma, x_0) * x_0 + expand(d_gamma, z) * z
        return PathPoint(x_t.to(x_1.dtype), v_t.to(x_1.dtype), t, c, z)
