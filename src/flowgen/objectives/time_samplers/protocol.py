"""What a time sampler is, and the draws that all of them share.

Training at times of density ``p`` with weight ``w`` has the expectation of uniform times with
weight ``p w``, but another variance: times belong where the reducible error is. With an independent
coupling that is the middle of ``[0, 1]``; with pairs fixed by a map (reflow) it is both ends.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError

LOWEST = 2.0**-25
HIGHEST = 1.0 - 2.0**-24
"""The largest float32 below 1. Draws stay in ``[LOWEST, HIGHEST]``, so ``t`` and ``1 - t`` are
positive and every density is finite."""

Device = torch.device | str | None
"""A place for tensors; None leaves the choice to the generator, or to torch."""


@runtime_checkable
class TimeSampler(Protocol):
    """A distribution of training times with a density in closed form."""

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times strictly inside (0, 1), shape ``(n,)``, float32.

        Args:
            n: How many, at least 0.
            generator: Draws on its own device; None draws from torch's default generator.
            device: Of the times; None for that of the generator, or the CPU.

        Raises:
            InputError: If ``n`` is negative.
        """
        ...

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the density per unit of time at times in (0, 1), in the dtype of ``t``."""
        ...


def uniform_draws(n: int, generator: torch.Generator | None, device: Device) -> Tensor:
    """Return ``n`` uniform numbers in ``[0, 1)``, shape ``(n,)``, float32.

    Args:
        n: How many.
        generator: Where and from what to draw.
        device: A ``torch.device``, its name or None.

    Raises:
        InputError: If ``n`` is negative.
    """
    _check_count(n)
    return torch.rand(n, generator=generator, device=_place(generator, device)).to(device=device)


def normal_draws(n: int, generator: torch.Generator | None, device: Device) -> Tensor:
    """Return ``n`` standard normal numbers, shape ``(n,)``, float32; see :func:`uniform_draws`."""
    _check_count(n)
    return torch.randn(n, generator=generator, device=_place(generator, device)).to(device=device)


def inside(t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return times moved strictly inside (0, 1), by at most one rounding of float32."""
    return t.clamp(LOWEST, HIGHEST)


def _check_count(n: int) -> None:
    if n < 0:
        raise InputError(f"n must be >= 0, got {n}")


def _place(generator: torch.Generator | None, device: Device) -> Device:
    return device if generator is None else generator.device
