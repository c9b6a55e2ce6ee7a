"""Write samples as the user wants them: a picture, arrays, or one PNG for each sample."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.pipeline.checkpoint import atomic
from flowgen.pipeline.images import is_image, save_image, save_picture

Writer = Callable[[Tensor, Tensor | None], None]
"""Takes samples ``(n, *d)`` and their labels ``(n,)`` or None."""


def writer(out: Path, *, columns: int = 10) -> Writer:
    """Return what writes samples to ``out``: ``.png``, ``.npz``, ``.pt``, or a folder of PNGs.

    Args:
        out: File, or folder (a name without suffix).
        columns: Images in a row of a ``.png`` grid.

    Raises:
        InputError: If the suffix is unknown or a number is out of range; before anything is drawn.
    """
    if columns < 1:
        raise InputError(f"columns must be >= 1, got {columns}")
    writers: dict[str, Writer] = {
        ".png": lambda samples, _: save_picture(samples, out, columns=columns),
        ".npz": lambda samples, labels: _save_npz(samples, labels, out),
        ".pt": lambda samples, labels: _save_pt(samples, labels, out),
        "": lambda samples, labels: _save_folder(samples, labels, out),
    }
    if out.suffix not in writers:
        raise InputError(f"out={out}: give a .png, .npz or .pt file, or a folder for single PNGs")
    return writers[out.suffix]


def _save_npz(samples: Tensor, labels: Tensor | None, out: Path) -> None:
    import numpy as np

    arrays = {"samples": samples.numpy()}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    with atomic(out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def _save_pt(samples: Tensor, labels: Tensor | None, out: Path) -> None:
    with atomic(out) as temporary:
        torch.save({"samples": samples, "labels": labels}, temporary)


def _save_folder(samples: Tensor, labels: Tensor | None, out: Path) -> None:
    if not is_image(samples):
        raise InputError(f"out={out}: only images go into a folder; give .npz or .pt")
    for i, image in enumerate(samples):
        label = "" if labels is None else f"_label{int(labels[i])}"
        save_image(image, out / f"{i:05d}{label}.png")
