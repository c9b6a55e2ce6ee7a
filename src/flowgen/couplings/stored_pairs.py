"""A file of pairs: which data sample belongs to each row of a numbered sequence of noise.

The noise itself is not stored: it is drawn again from the seed of the file, in blocks of 64 rows,
block ``k`` of a round depending on the seed and its number alone. So a pair takes four bytes.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowgen.core import InputError, Source, generator_for

BLOCK = 64
"""Rows of noise that are drawn together."""

_FORMAT = "1"
_STREAM = 5
"""Tells this noise from other draws of the same seed."""


def noise_block(source: Source, seed: int, number: int, block: int) -> Float[Tensor, "64 *d"]:
    """Return the noise of a block, on the CPU.

    Args:
        source: Of the noise.
        seed: Of the file.
        number: Of the round.
        block: In the round.
    """
    generator = generator_for(seed, number, block, _STREAM)
    return source.sample(BLOCK, generator=generator, device="cpu")


@dataclass(frozen=True)
class StoredPairs:
    """What ``flowgen fit-pairs`` writes.

    Args:
        index: Row of the training set for each row of noise, ``(rounds, rows)`` int32.
        seed: Of the noise.
        epsilon: Strength, in standard deviations of the cost ``-x . y``.
        by_label: Whether each class was paired on its own.
        digest: Of the training set, :func:`flowgen.couplings.digest_of`.
        data: Name of the data set.
        first: The first row of noise, flat: by it another source is told.
    """

    index: Int[Tensor, "rounds rows"]
    seed: int
    epsilon: float
    by_label: bool
    digest: str
    data: str
    first: Float[Tensor, " d"]

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        about = {
            "flowgen_pairs": _FORMAT,
            "seed": str(self.seed),
            "epsilon": repr(self.epsilon),
            "by_label": str(int(self.by_label)),
            "digest": self.digest,
            "data": self.data,
        }
        tensors = {"index": self.index.int().contiguous().cpu(), "first": self.first.float().cpu()}
        save_file(tensors, path, about)

    @classmethod
    def load(cls, path: str | Path) -> "StoredPairs":
        """Return the content of a file; its numbers are mapped into memory, not read at once.

        Raises:
            InputError: If there is no such file, or it is another kind of file or damaged.
        """
        file = Path(path).expanduser()
        if not file.is_file():
            raise InputError(f"no file at '{file}': make it by flowgen fit-pairs data=<name>")
        try:
            with safe_open(file, framework="pt") as content:
                about = content.metadata() or {}
                if about.get("flowgen_pairs") != _FORMAT:
                    raise InputError(f"{file} holds no pairs of flowgen fit-pairs")
                return cls(
                    content.get_tensor("index"),
                    int(about["seed"]),
                    float(about["epsilon"]),
                    about["by_label"] == "1",
                    about["digest"],
                    about["data"],
                    content.get_tensor("first"),
                )
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file} holds no pairs, or is damaged") from error

    def fits(self, source: Source) -> bool:
        """Whether the noise of ``source`` is that of the file."""
        first = noise_block(source, self.seed, 0, 0)[0].flatten().float()
        return first.shape == self.first.shape and bool(torch.equal(first, self.first))
