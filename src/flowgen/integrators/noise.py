"""Random numbers of stochastic steppers, drawn for each sample from a stream of its own."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, generator_for

_STREAM = 0x5DE
"""Apart from the stream that a sample's source point is drawn from."""


class Noise:
    """Standard normal numbers along trajectories, row ``i`` depending on its sample's number alone.

    Results of a stochastic sampler so depend neither on the size of a batch nor on the device:
    numbers are drawn in float32 on the CPU.

    Args:
        seed: The user's seed, at least 0.
        numbers: Global numbers of the samples in the batch, in the order of its rows.

    Raises:
        InputError: If the seed is negative.
    """

    def __init__(self, seed: int, numbers: Iterable[int]) -> None:
        if seed < 0:
            raise InputError(f"seed must be >= 0, got {seed}")
        self._generators = [generator_for(seed, number, _STREAM) for number in numbers]

    def like(self, x: Float[Tensor, "b *d"]) -> Float[Tensor, "b *d"]:
        """Return the next numbers, of the shape, type and device of ``x (b, *d)``.

        Raises:
            InputError: If ``x`` has another number of rows than there are samples.
        """
        if len(x) != len(self._generators):
            raise InputError(f"noise is for {len(self._generators)} samples, x has {len(x)} rows")
        return torch.stack([torch.randn(x.shape[1:], generator=g) for g in self._generators]).to(x)
