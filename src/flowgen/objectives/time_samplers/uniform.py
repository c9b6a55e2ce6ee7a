"""Uniform times, drawn independently or one in each of ``n`` equal strata.

A stratified batch has the same expectation and at most the variance of an independent one: the part
of the loss that depends on ``t`` alone no longer varies from batch to batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.objectives.time_samplers.protocol import inside, uniform_draws


@dataclass(frozen=True)
class Uniform:
    """``t = u``, ``u`` uniform on (0, 1); density 1.

    Source: Lipman et al. 2023, arXiv 2210.02747, eq. 5.
    """

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times; see :class:`TimeSampler`."""
        return inside(uniform_draws(n, generator, device))

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return 1 at every time."""
        return torch.ones_like(t)


@dataclass(frozen=True)
class Stratified:
    """``t = (i + u_i) / n`` for ``i < n`` in random order; density 1 for each single time.

    The random order keeps a row's time independent of its place in the batch.

    Source: Kingma et al. 2021, arXiv 2107.00630, low-discrepancy sampler (one ``u`` for all).
    """

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times, one in each stratum; see :class:`TimeSampler`."""
        u = uniform_draws(n, generator, device)
        # The order of independent draws is a uniform permutation, of the generator's own making.
        stratum = uniform_draws(n, generator, device).argsort()
        return inside((stratum + u) / max(n, 1))

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return 1 at every time."""
        return torch.ones_like(t)
