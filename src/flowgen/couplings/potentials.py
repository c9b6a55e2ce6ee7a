"""A file of semidiscrete potentials, and the data set that they belong to."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowgen.core import InputError

_FORMAT = "1"


@dataclass(frozen=True)
class Potentials:
    """What a fit of semidiscrete transport leaves.

    Args:
        potential: One number for each sample of the training set, in its order, ``(n,)``.
        by_label: Whether each class was fitted on its own.
        digest: Of the training set, see :func:`digest_of`.
        data: Name of the data set.
        chi2: Of the masses of the cells, the largest of all classes.
    """

    potential: Float[Tensor, " n"]
    by_label: bool
    digest: str
    data: str
    chi2: float

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        about = {
            "flowgen_potentials": _FORMAT,
            "by_label": str(int(self.by_label)),
            "digest": self.digest,
            "data": self.data,
            "chi2": repr(self.chi2),
        }
        save_file({"potential": self.potential.float().contiguous().cpu()}, path, about)

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
                if about.get("flowgen_potentials") != _FORMAT:
                    raise InputError(f"{file} holds no potentials of flowgen fit-coupling")
                return cls(
                    content.get_tensor("potential"),
                    about["by_label"] == "1",
                    about["digest"],
                    about["data"],
                    float(about["chi2"]),
                )
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file} holds no potentials, or is damaged") from error


def digest_of(chunks: Iterator[dict[str, Tensor]]) -> str:
    """Return a digest of samples and labels in their order, however they are cut into chunks.

    Args:
        chunks: Batches of the training set as it is stored, ``x_1`` and perhaps ``label``.
    """
    parts = {"x_1": hashlib.sha256(), "label": hashlib.sha256()}
    for chunk in chunks:
        for name, part in parts.items():
            if name in chunk:
                part.update(chunk[name].contiguous().view(torch.uint8).numpy().tobytes())
    return hashlib.sha256(b"".join(part.digest() for part in parts.values())).hexdigest()
