"""A folder of pairs that a flow has made: shards of tensors, and an index that says of what.

Shard ``k`` holds the pairs ``k n .. (k + 1) n - 1`` of a numbered sequence, ``n`` the size of a
shard: ``x_0`` of the source, ``x_1`` where the flow takes it, both in the model's space, and
``label``. A shard is written whole or not at all, and the index after it, so what the index counts
is there. Shards are mapped into memory: a set may be larger than it.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowgen.core import InputError

INDEX = "pairs.json"
"""Name of the index in its folder."""

_FORMAT = 1
_KEY = "flowgen_made_pairs"

Atomic = Callable[[Path], AbstractContextManager[Path]]
"""Gives a temporary file to write, which becomes the file at the end."""


@dataclass(frozen=True)
class PairFolder:
    """What ``flowgen make-pairs`` writes.

    Args:
        folder: Where it is.
        settings: What the pairs follow from: plain values, the same for all shards.
        codec: Plain config of the codec that decodes ``x_1``.
        label_names: Names of the labels in order; None without labels.
        num_classes: How many labels there are; None without labels.
        num_pairs: How many pairs are wanted.
        shard_size: Pairs of a shard; the last has what is left.
        counts: Pairs of each shard that is there.
    """

    folder: Path
    settings: Mapping[str, Any]
    codec: Mapping[str, Any]
    label_names: tuple[str, ...] | None
    num_classes: int | None
    num_pairs: int
    shard_size: int
    counts: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return the number of pairs that are there."""
        return sum(self.counts)

    @property
    def complete(self) -> bool:
        """Whether all pairs are there."""
        return len(self) == self.num_pairs

    def file(self, shard: int) -> Path:
        """Return the path of a shard."""
        return self.folder / f"pairs_{shard:05d}.safetensors"

    def numbers(self, shard: int) -> range:
        """Return the numbers of the pairs of a shard."""
        start = shard * self.shard_size
        return range(start, min(start + self.shard_size, self.num_pairs))

    def sound(self) -> "PairFolder":
        """Return the folder up to its first shard that is missing, damaged or not as long as asked.

        The last of fewer pairs is such a shard.
        """
        for shard, count in enumerate(self.counts):
            try:
                whole = count == len(self.numbers(shard)) and bool(_mapped(self, shard))
            except InputError:
                whole = False
            if not whole:
                return replace(self, counts=self.counts[:shard])
        return self

    def with_shard(self, tensors: Mapping[str, Tensor], atomic: Atomic) -> "PairFolder":
        """Return the folder with its next shard, written.

        Args:
            tensors: ``x_0`` and ``x_1 (n, *d)``, and ``label (n,)`` for labelled pairs.
            atomic: How a file is written whole.
        """
        number = len(self.counts)
        whole = {name: value.contiguous().cpu() for name, value in tensors.items()}
        with atomic(self.file(number)) as temporary:
            save_file(whole, temporary, {_KEY: str(_FORMAT), "first": str(self.numbers(number)[0])})
        more = replace(self, counts=(*self.counts, len(whole["x_0"])))
        more.write(atomic)
        return more

    def write(self, atomic: Atomic) -> None:
        """Write the index."""
        content = {
            _KEY: _FORMAT,
            "num_pairs": self.num_pairs,
            "shard_size": self.shard_size,
            "counts": list(self.counts),
            "codec": dict(self.codec),
            "num_classes": self.num_classes,
            "label_names": None if self.label_names is None else list(self.label_names),
            "settings": dict(self.settings),
        }
        with atomic(self.folder / INDEX) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: str | Path) -> "PairFolder":
        """Return what the index of a folder says.

        Raises:
            InputError: If there is none, or it is damaged or of another kind.
        """
        place = Path(folder).expanduser()
        file = place / INDEX
        if not file.is_file():
            raise InputError(f"no {INDEX} in '{folder}': make pairs by flowgen make-pairs")
        try:
            content = json.loads(file.read_text())
            if content[_KEY] != _FORMAT:
                raise InputError(f"{file} has format {content[_KEY]}, this version knows {_FORMAT}")
            names = content["label_names"]
            if not content["shard_size"] > 0:
                raise ValueError("shards must hold pairs")
            return cls(
                place,
                content["settings"],
                content["codec"],
                None if names is None else tuple(names),
                content["num_classes"],
                int(content["num_pairs"]),
                int(content["shard_size"]),
                tuple(int(count) for count in content["counts"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file} is no index of pairs, or is damaged") from error


class PairShards:
    """The pairs of a folder by number, mapped into memory.

    Args:
        folder: Complete.

    Raises:
        InputError: If a shard is missing, damaged or not of this folder.
    """

    def __init__(self, folder: PairFolder) -> None:
        self.folder = folder
        self._tensors = [_mapped(folder, shard) for shard in range(len(folder.counts))]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.folder)

    def rows(self, numbers: Int[Tensor, " n"]) -> dict[str, Tensor]:
        """Return the pairs of the given numbers, in that order, on the CPU.

        Args:
            numbers: Each below ``len(self)``, shape ``(n,)``.
        """
        shard, place = numbers // self.folder.shard_size, numbers % self.folder.shard_size
        order = shard.argsort(stable=True)
        parts = []
        for rows in order.split(shard.bincount().tolist()):
            if len(rows) > 0:
                tensors = self._tensors[int(shard[rows[0]])]
                parts.append({name: value[place[rows]] for name, value in tensors.items()})
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}

    def first(self) -> Float[Tensor, "1 *d"]:
        """Return the source sample of pair 0: by it another source is told."""
        return self._tensors[0]["x_0"][:1]


def _mapped(folder: PairFolder, shard: int) -> dict[str, Tensor]:
    file, numbers = folder.file(shard), folder.numbers(shard)
    names = ["x_0", "x_1"] + (["label"] if folder.num_classes is not None else [])
    try:
        with safe_open(file, framework="pt") as content:
            found = {name: content.get_tensor(name) for name in names}
            first = (content.metadata() or {}).get("first")
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} is missing or damaged: the flowgen make-pairs that made it makes it again"
        ) from error
    sizes = {len(value) for value in found.values()}
    if first != str(numbers.start) or sizes != {folder.counts[shard]}:
        raise InputError(f"{file} does not hold the pairs that {INDEX} says")
    return found
