"""A file of semidiscrete potentials, and the data set and source that they belong to."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowgen.core import InputError, Source
from flowgen.couplings.stored_pairs import noise_block

_FORMAT = "2"
_WITHOUT_SOURCE = "1"
"""The format that did not say which source was shared out."""
_SAME = 1e-5
"""Relative difference up to which noise is the same, drawn on another processor."""


@dataclass(frozen=True)
class Potentials:
    """What a fit of semidiscrete transport leaves.

    Args:
        potential: One number for each sample of the training set, in its order, ``(n,)``.
        by_label: Whether each class was fitted on its own.
        digest: Of the training set, see :func:`digest_of`.
        data: Name of the data set.
        chi2: Of the masses of the cells, the largest of all classes.
        noise: What :func:`told_by_noise` says of the source, ``(64, 2)``.
    """

    potential: Float[Tensor, " n"]
    by_label: bool
    digest: str
    data: str
    chi2: float
    noise: Float[Tensor, "64 2"]

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        about = {
            "flowgen_potentials": _FORMAT,
            "by_label": str(int(self.by_label)),
            "digest": self.digest,
            "data": self.data,
            "chi2": repr(self.chi2),
        }
        tensors = {"potential": self.potential, "noise": self.noise}
        plain = {name: value.float().contiguous().cpu() for name, value in tensors.items()}
        save_file(plain, path, about)

    @classmethod
    def load(cls, path: str | Path) -> "Potentials":
        """Return the content of a file; its numbers are mapped into memory, not read at once.

        Raises:
            InputError: If there is no such file, or it is another kind of file or damaged.
        """
        file = Path(path).expanduser()
        if not file.is_file():
            raise InputError(f"no file at '{file}': make it by flowgen fit-coupling data=<name>")
        try:
            with safe_open(file, framework="pt") as content:
                about = content.metadata() or {}
                if about.get("flowgen_potentials") == _WITHOUT_SOURCE:
                    raise InputError(
                        f"{file} is of an earlier flowgen and does not say which source it is for: "
                        "make it again by flowgen fit-coupling"
                    )
                if about.get("flowgen_potentials") != _FORMAT:
                    raise InputError(f"{file} holds no potentials of flowgen fit-coupling")
                return cls(
                    content.get_tensor("potential"),
                    about["by_label"] == "1",
                    about["digest"],
                    about["data"],
                    float(about["chi2"]),
                    content.get_tensor("noise"),
                )
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file} holds no potentials, or is damaged") from error

    def fits(self, source: Source) -> bool:
        """Whether the noise of ``source`` is that of the fit."""
        own = told_by_noise(source)
        return float((own - self.noise).abs().max()) <= _SAME * float(own.abs().max())


def told_by_noise(source: Source) -> Float[Tensor, "64 2"]:
    """Return mean and mean square of 64 rows of noise of a fixed seed: they tell sources apart.

    Args:
        source: Whose first row alone could be that of another one, e.g. of a mixture of the same
            components in other shares.
    """
    rows = noise_block(source, 0, 0, 0).flatten(1).double()
    return torch.stack([rows.mean(dim=1), rows.square().mean(dim=1)], dim=1).float()


def digest_of(chunks: Iterator[dict[str, Tensor]], codec: Mapping[str, object]) -> str:
    """Return a digest of samples and labels in their order, however they are cut into chunks.

    Args:
        chunks: Batches of the training set as it is stored, ``x_1`` and perhaps ``label``.
        codec: ``to_config()`` of the codec that the model sees them by. Its config and not the
            encoded samples, whose last digits are those of the machine.
    """
    parts = {"x_1": hashlib.sha256(), "label": hashlib.sha256()}
    for chunk in chunks:
        for name, part in parts.items():
            if name in chunk:
                part.update(chunk[name].contiguous().view(torch.uint8).numpy().tobytes())
    seen = hashlib.sha256(json.dumps(_rounded(codec), sort_keys=True).encode())
    every = [*parts.values(), seen]
    return hashlib.sha256(b"".join(part.digest() for part in every)).hexdigest()


def _rounded(value: object) -> object:
    """Return plain values with six digits of each number: a mean has others with more threads."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return {str(key): _rounded(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(each) for each in value]
    return value
