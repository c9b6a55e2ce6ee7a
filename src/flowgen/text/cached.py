"""Captions encoded once and kept on disk.

The file is named by a digest of encoder, captions and length, so that nothing stale is read.
"""

import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowgen.core import cache_folder

_AT_ONCE = 64
_SHOW_PROGRESS = 2000  # texts from which a progress bar is worth it


class CachedTexts(ABC):
    """An encoder whose captions of a data set are kept on disk.

    Args:
        cache: Folder for them; None takes ``$FLOWGEN_CACHE/text``, or ``~/.cache/flowgen/text``.
    """

    def __init__(self, cache: str | None = None) -> None:
        self.cache = None if cache is None else Path(cache).expanduser()

    @abstractmethod
    def __call__(
        self, texts: Sequence[str], length: int
    ) -> tuple[Float[Tensor, "n l w"], Bool[Tensor, "n l"]]:
        """Return states and which of them are tokens; see :class:`flowgen.models.TextEncoder`."""

    @abstractmethod
    def weights(self) -> list[tuple[str, Tensor]]:
        """Return the weights of the encoder by name, which tell it from others."""

    def table(
        self, texts: Sequence[str], length: int
    ) -> tuple[Float[Tensor, "n l w"], Bool[Tensor, "n l"]]:
        """Return what calling it does, in half precision, encoded once and kept on disk."""
        folder = cache_folder() / "text" if self.cache is None else self.cache
        file = folder / f"{self._digest(texts, length)}.safetensors"
        with suppress(OSError, SafetensorError, KeyError):
            found = load_file(file)
            return found["states"], found["mask"]
        from tqdm import tqdm

        parts = []
        hide = len(texts) <= _SHOW_PROGRESS
        for start in tqdm(
            range(0, len(texts), _AT_ONCE), desc="encoding captions", disable=hide, leave=False
        ):
            states, mask = self(texts[start : start + _AT_ONCE], length)
            parts.append((states.half(), mask))
        states, mask = (torch.cat(each) for each in zip(*parts, strict=True))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f".{file.name}.{os.getpid()}")
            save_file({"states": states, "mask": mask}, temporary)
            temporary.replace(file)
        except OSError as error:
            logging.getLogger(__name__).warning(
                "encoded captions cannot be kept in %s: %s", file.parent, error.strerror or error
            )
        return states, mask

    def _digest(self, texts: Sequence[str], length: int) -> str:
        found = hashlib.sha256(f"{length} {len(texts)}".encode())
        for text in texts:
            found.update(b"\0" + text.encode())
        for name, value in self.weights():
            # A few numbers of each weight tell models apart.
            few = value.flatten()[:: max(1, value.numel() // 16)].float()
            found.update(name.encode() + few.contiguous().numpy().tobytes())
        return found.hexdigest()[:32]
