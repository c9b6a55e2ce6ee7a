"""Noise in a file, with the conditions of what it was made of.

An ``.npz`` file holds ``noise (n, *d)``, float32 in model space, and ``cond.<name> (n, ...)`` for
each condition.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowgen.core import Condition, InputError
from flowgen.pipeline.checkpoint import atomic
from flowgen.pipeline.pipeline import Pipeline

ENDING = ".npz"
_COND = "cond."


def write_noise(file: Path, noise: Tensor, was: Condition | None) -> None:
    """Write noise ``(n, *d)`` and the conditions of its samples, atomically."""
    import numpy as np

    arrays = {"noise": noise.float().cpu().numpy()}
    for name, value in (was or {}).items():
        arrays[f"{_COND}{name}"] = value.cpu().numpy()
    with atomic(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]


def read_noise(file: str | Path, pipeline: Pipeline) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Return noise ``(n, *d)`` and the conditions that a file holds, None where it has none.

    Args:
        file: Of :func:`write_noise`, or with an array ``noise`` alone.
        pipeline: That will start from it.

    Raises:
        InputError: If it cannot be read or does not fit the model.
    """
    shape, place = pipeline.shape, Path(file).expanduser()
    arrays = _arrays(place)
    told = f"noise={file}"
    noise = arrays.pop("noise", None)
    if noise is None or not noise.is_floating_point():
        raise InputError(f"{told}: it has no array of numbers named noise")
    if tuple(noise.shape[1:]) != shape or len(noise) == 0:
        raise InputError(
            f"{told}: noise has shape {tuple(noise.shape)}, and the model starts from (n, "
            f"{', '.join(map(str, shape))})"
        )
    if not bool(noise.isfinite().all()):
        raise InputError(f"{told}: some of its numbers are not finite")
    was = {name.removeprefix(_COND): value for name, value in arrays.items()}
    if not was:
        return noise.float(), None
    own = pipeline.conditioner.null(len(noise)) if pipeline.conditioner else {}
    if {name: _kind(value) for name, value in was.items()} != {
        name: _kind(value) for name, value in own.items()
    }:
        raise InputError(f"{told}: its conditions ({', '.join(was)}) are not those of this model")
    for name, value in was.items():
        # The label of "none" comes after all others.
        if value.dtype == torch.int64 and bool(((value < 0) | (value > own[name])).any()):
            raise InputError(f"{told}: some of its {name}s are none of this model")
    return noise.float(), was


def _arrays(place: Path) -> dict[str, Tensor]:
    import numpy as np

    if not place.is_file():
        raise InputError(f"noise={place}: there is no such file")
    try:
        with np.load(place, allow_pickle=False) as read:
            return {name: torch.from_numpy(read[name]) for name in read.files}
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"noise={place}: this is no file of flowgen invert") from error


def _kind(value: Tensor) -> tuple[Any, ...]:
    return value.dtype, tuple(value.shape)
