"""Randomness through explicit generators only; never a global one.

Seeds of single samples are derived with numpy's ``SeedSequence``, so that streams of different
samples are independent and a sample does not depend on the batch it is drawn in.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor


def generator_for(*entropy: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by all of ``entropy`` together, e.g. ``(seed, epoch, rank)``.

    Args:
        entropy: Non-negative integers; another tuple gives an independent stream.
        device: Where the generator draws.
    """
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device=device).manual_seed(seed)


def per_sample(
    draw: Callable[[torch.Generator], Tensor], seed: int, indices: Iterable[int]
) -> Tensor:
    """Return one row for each index, row ``i`` depending on ``(seed, i)`` alone.

    Args:
        draw: Returns one sample of shape ``(1, *d)`` from the generator it is given.
        seed: The user's seed, non-negative.
        indices: Global numbers of the samples; how they are split into calls does not matter.

    Returns:
        Samples of shape ``(len(indices), *d)`` on the CPU.
    """
    return torch.cat([draw(generator_for(seed, index)) for index in indices])
