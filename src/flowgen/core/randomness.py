"""Randomness through explicit generators; global ones only where a network leaves no choice.

Seeds of single samples are derived with numpy's ``SeedSequence``, so that streams of different
samples are independent and a sample does not depend on the batch it is drawn in.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def generator_for(*entropy: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by all of ``entropy`` together, e.g. ``(seed, epoch, rank)``.

    Args:
        entropy: Non-negative integers; another tuple gives an independent stream.
        device: Where the generator draws.
    """
    return torch.Generator(device=device).manual_seed(_seed(entropy))


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


@contextmanager
def network_randomness(*entropy: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators by ``entropy`` inside, and put them back afterwards.

    The one use of the global generators: dropout inside a network knows no other. Streams are
    independent of those of :func:`generator_for` with the same entropy.

    Args:
        entropy: Non-negative integers.
        device: Where the network is.
    """
    # torch.manual_seed would seed every device there is, which takes longer than a small step.
    seed = _seed((*entropy, 1))
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _seed(entropy: tuple[int, ...]) -> int:
    # Words of 32 bits are what numpy makes of small numbers, in twice the time.
    words = np.array(entropy, np.uint32) if max(entropy, default=0) < 2**32 else entropy
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1
