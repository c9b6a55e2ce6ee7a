"""A few times only, for models that are asked at no others."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.objectives.time_samplers.protocol import inside, uniform_draws


@dataclass(frozen=True)
class Discrete:
    """``t = i / num_times``, ``i`` uniform on ``0 .. num_times - 1``: where Euler's method looks.

    As an average over each step's length its density is 1.

    Args:
        num_times: How many, >= 1; one is time 0 alone.

    Raises:
        InputError: If ``num_times`` is below 1.

    Source: Liu et al. 2022, arXiv 2209.03003, section 2.3 (distillation into k steps).
    """

    num_times: int = 1

    def __post_init__(self) -> None:
        """Check the number."""
        if self.num_times < 1:
            raise InputError(f"num_times must be >= 1, got {self.num_times}")

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times; see :class:`TimeSampler`."""
        u = uniform_draws(n, generator, device)
        # A draw just below 1 may round up to the number itself.
        place = (u * self.num_times).floor().clamp(max=self.num_times - 1)
        return inside(place / self.num_times)

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return 1 at every time: each of the times stands for the step that begins there."""
        return torch.ones_like(t)
