"""Sources: the distribution at time 0. Every toy distribution of this package is one as well."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, flatten


class Gaussian:
    """Isotropic Gaussian noise ``N(0, std^2 I)`` of the shape of one sample.

    Args:
        shape: Shape of one sample, e.g. ``(1, 28, 28)`` or ``(2,)``.
        std: Standard deviation, > 0.

    Raises:
        InputError: If an axis is smaller than 1 or ``std`` is not positive.
    """

    def __init__(self, shape: Sequence[int], std: float = 1.0) -> None:
        self.shape = tuple(int(side) for side in shape)
        self.std = float(std)
        if not self.shape or min(self.shape) < 1:
            raise InputError(f"shape must have axes >= 1, e.g. [1, 28, 28], got {list(shape)}")
        if not 0.0 < self.std < float("inf"):
            raise InputError(f"std must be finite and > 0, got {std}")

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return ``n`` samples, float32 ``(n, *shape)``; the generator lives on ``device``."""
        return self.std * torch.randn(n, *self.shape, generator=generator, device=device)

    def log_prob(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
        """Return the log density at ``x (n, *shape)``, in nats.

        Raises:
            InputError: If ``x`` does not have the shape of a sample.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise InputError(f"x must have shape (n, {self.shape}), got {tuple(x.shape)}")
        norm = math.prod(self.shape) * (0.5 * math.log(2 * math.pi) + math.log(self.std))
        return -0.5 * flatten(x / self.std).square().sum(dim=1) - norm
