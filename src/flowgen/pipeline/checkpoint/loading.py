"""Files that describe themselves: weights, the plain config of their pipeline, conventions, format.

Two kinds of file are read: a training checkpoint (``.ckpt``, raw and averaged weights) and an
exported one (``.safetensors``, one set of weights, the description in the header). Neither is ever
unpickled beyond tensors and plain containers, and the weights must fit exactly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.pipeline.build import build
from flowgen.pipeline.checkpoint.reading import read_training_checkpoint
from flowgen.pipeline.checkpoint.writing import atomic
from flowgen.pipeline.pipeline import Pipeline, describe

FORMAT = 1
"""Version of the description inside a checkpoint."""

KEY = "flowgen"
"""Where the description stands: a key of a training checkpoint, of a safetensors header."""

PREFIXES = {"ema": "ema.field.", "raw": "pipeline.field."}
"""Where each set of weights stands in the ``state_dict`` of a training checkpoint."""

LAST = Path("checkpoints") / "last.ckpt"
"""The newest checkpoint inside a run folder."""


def description(pipeline: Pipeline) -> dict[str, Any]:
    """Return what a file must carry beside the weights to rebuild ``pipeline``: plain data."""
    return {"format": FORMAT, "pipeline": pipeline.config, **describe(pipeline.about)}


def load(
    path: str | Path,
    *,
    weights: str = "ema",
    device: str | torch.device = "auto",
    trust_code: bool = False,
) -> Pipeline:
    """Return the pipeline stored in a checkpoint, ready to sample.

    Args:
        path: A run folder, a training checkpoint (``.ckpt``) or an exported ``.safetensors`` file.
        weights: ``ema`` (averaged) or ``raw``; an exported file holds one set and ignores this.
        device: Where to put it; ``auto`` takes CUDA where there is one.
        trust_code: Also build classes from outside flowgen that the file names.

    Raises:
        InputError: If the file is missing, foreign, damaged, of a newer format, or names classes
            outside the allow-list.
    """
    if weights not in PREFIXES:
        raise InputError(f"weights must be one of {', '.join(PREFIXES)}, got '{weights}'")
    file = find(path)
    about, state = _read(file, weights)
    if not isinstance(about, Mapping):
        raise _foreign(file, None)
    if about.get("format") != FORMAT:
        raise InputError(
            f"{file} has checkpoint format {about.get('format')}, this flowgen reads {FORMAT}: "
            "install the flowgen version that wrote it, or a newer one"
        )
    if not isinstance(about.get("pipeline"), Mapping):
        raise _foreign(file, None)
    pipeline = build(about["pipeline"], trust_code=trust_code)
    if not isinstance(pipeline, Pipeline):
        raise InputError(f"{file} describes a {type(pipeline).__name__}, not a pipeline")
    try:
        pipeline.field.load_state_dict(state, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise InputError(f"{file}: the weights do not fit their config: {detail}") from error
    pipeline.config = about["pipeline"]
    pipeline.about = {
        key: value
        for key, value in about.items()
        if key not in {"format", "pipeline", "version", "conventions"}
    }
    return pipeline.eval().requires_grad_(False).to(pick_device(device))


def save(pipeline: Pipeline, path: str | Path) -> Path:
    """Write a pipeline's weights and description as one ``.safetensors`` file, atomically.

    Raises:
        InputError: If the pipeline was built or changed by hand and has no config that describes
            it, or the name does not end in ``.safetensors``.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"an exported pipeline ends in .safetensors, got '{path}'")
    if not pipeline.config:
        raise InputError(
            "no config describes this pipeline: it was built, or its parts changed, by hand"
        )
    state = {name: value.contiguous().cpu() for name, value in pipeline.field.state_dict().items()}
    with atomic(path) as temporary:
        save_file(state, temporary, metadata={KEY: json.dumps(description(pipeline))})
    return path


def find(path: str | Path) -> Path:
    """Return the checkpoint file that ``path`` (a run folder or a file) means.

    Raises:
        InputError: If there is none.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        for candidate in (path / LAST, path / LAST.name):
            if candidate.is_file():
                return candidate
        raise InputError(f"no checkpoint in {path}: expected {LAST} inside a run folder")
    if not path.is_file():
        raise InputError(f"no checkpoint at '{path}': give a run folder or a checkpoint file")
    return path


def pick_device(device: str | torch.device) -> torch.device:
    """Return the device meant; ``auto`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device '{device}' is not available here: {error}".splitlines()[0]
        ) from None


def _read(file: Path, weights: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    return _read_checkpoint(file, weights)


def _read_safetensors(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        about = json.loads(header[KEY])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise _foreign(file, error) from None
    return about, state


def _read_checkpoint(file: Path, weights: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    content = read_training_checkpoint(file)
    parts = [content.get(key) for key in (KEY, "state_dict")]
    if not all(isinstance(part, Mapping) for part in parts):
        raise _foreign(file, None)
    prefix = PREFIXES[weights]
    state = {
        name.removeprefix(prefix): value
        for name, value in content["state_dict"].items()
        if name.startswith(prefix)
    }
    if not state:
        raise InputError(f"{file} holds no '{weights}' weights; try weights=raw")
    return dict(content[KEY]), state


def _foreign(file: Path, error: Exception | None) -> InputError:
    reason = f" ({' '.join(str(error).split())[:120]})" if error else ""
    return InputError(f"{file} is not a flowgen checkpoint, or is damaged{reason}")
