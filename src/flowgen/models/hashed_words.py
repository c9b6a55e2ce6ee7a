"""An encoder of text without weights: words as sums of fixed random vectors of their letters.

A word is the mean of vectors of itself and of its pieces of three to five characters, as in
fastText (Bojanowski et al. 2017, arXiv 1607.04606), but each vector is normal noise that a hash of
the piece seeds: nothing is learnt or downloaded, words that are spelt alike are near each other,
and any word has a vector. Waves of the place are added, so that order counts. What words mean is
left for the network to learn.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowgen.models.checks import check_positive

_WORDS = re.compile(r"\w+|[^\w\s]", re.UNICODE)
_PIECES = range(3, 6)


class HashedWords:
    """Encodes a text as its words, lower case, signs apart; one token at its start says how many.

    Args:
        width: Features of a token, at least 1.
        seed: Of the vectors.

    Raises:
        InputError: If ``width`` is not positive.
    """

    def __init__(self, width: int = 256, seed: int = 0) -> None:
        check_positive(width=width)
        self.width = width
        self.seed = seed

    def __call__(
        self, texts: Sequence[str], length: int
    ) -> tuple[Float[Tensor, "n l w"], Bool[Tensor, "n l"]]:
        """Return states ``(n, length, width)`` and which are tokens, see :class:`TextEncoder`."""
        states = torch.zeros(len(texts), length, self.width)
        mask = torch.zeros(len(texts), length, dtype=torch.bool)
        for row, text in enumerate(texts):
            words = _WORDS.findall(text.lower())
            tokens = [f"<{min(len(words), 99)} words>", *words][:length]
            for place, token in enumerate(tokens):
                states[row, place] = torch.from_numpy(_vector(token, self.width, self.seed))
            states[row, : len(tokens)] += _places(len(tokens), self.width)
            mask[row, : len(tokens)] = True
        return states, mask


def _places(count: int, width: int) -> Float[Tensor, "l w"]:
    """Return waves that tell places apart, half as large as the words."""
    angles = torch.arange(count)[:, None] / 100.0 ** torch.linspace(0.0, 1.0, -(-width // 2))
    return 0.5 * torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]


@lru_cache(maxsize=20_000)
def _vector(word: str, width: int, seed: int) -> np.ndarray:
    """Return the vector of a word, of unit variance, float32 ``(width,)``."""
    marked = f"<{word}>"
    pieces = [marked[i : i + n] for n in _PIECES for i in range(len(marked) - n + 1)]
    drawn = [_noise(piece, width, seed) for piece in [f"= {word}", *pieces]]
    return (np.sum(drawn, axis=0) / np.sqrt(len(drawn))).astype(np.float32)


def _noise(piece: str, width: int, seed: int) -> np.ndarray:
    # Python's own hash differs from run to run.
    digest = hashlib.blake2b(f"{seed} {piece}".encode(), digest_size=8).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    return generator.standard_normal(width)
