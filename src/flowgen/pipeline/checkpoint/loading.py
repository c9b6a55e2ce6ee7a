"""From a file to a pipeline that samples, and back to an exported file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgen.core import InputError, Source
from flowgen.data import Codec
from flowgen.integrators import Sampler
from flowgen.models import Conditioner, PredictionField
from flowgen.pipeline.allowed import check_plain
from flowgen.pipeline.build import build
from flowgen.pipeline.checkpoint.hub import FRONT, downloaded
from flowgen.pipeline.checkpoint.layout import (
    CODECS,
    KEY,
    LAST,
    PREFIXES,
    STATE,
    about,
    description,
)
from flowgen.pipeline.checkpoint.migrations import NewerFormatError, migrate
from flowgen.pipeline.checkpoint.problems import DamageError, plain, told_of
from flowgen.pipeline.checkpoint.reading import opened, read_training_checkpoint
from flowgen.pipeline.checkpoint.tensors_file import read_tensors, write_tensors
from flowgen.pipeline.checkpoint.weights import check_state, choose, fill, no_more_than
from flowgen.pipeline.checkpoint.writing import atomic
from flowgen.pipeline.pipeline import Pipeline

_PARTS = {
    "field": PredictionField,
    "source": Source,
    "sampler": Sampler,
    "codec": Codec,
    "conditioner": Conditioner | None,
}


def load(
    path: str | Path,
    *,
    weights: str = "ema",
    device: str | torch.device = "auto",
    trust_code: bool = False,
) -> Pipeline:
    """Return the pipeline stored in a checkpoint, ready to sample.

    Args:
        path: A run folder, a training checkpoint (``.ckpt``), an exported ``.safetensors`` file, or
            ``hf://<user>/<name>``, what ``push_to_hub`` of ``flowgen export`` has uploaded.
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
    told, state, codec = _read(file, weights, trust_code=trust_code)
    try:
        pipeline = _built(told["pipeline"], {**state, **codec}, trust_code=trust_code)
        fill(pipeline.field, state)
        if isinstance(pipeline.codec, nn.Module):
            fill(pipeline.codec, codec)
    except InputError as error:
        raise InputError(f"{plain(file, 400)}: {error}") from error
    pipeline.config = told["pipeline"]
    pipeline.about = about(told)
    return pipeline.eval().requires_grad_(False).to(pick_device(device))


def save(pipeline: Pipeline, path: str | Path) -> Path:
    """Write a pipeline's weights and description as one ``.safetensors`` file, atomically.

    Raises:
        InputError: If the pipeline was built or changed by hand and has no config that describes
            it, or the name does not end in ``.safetensors``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"an exported pipeline ends in .safetensors, got '{path}'")
    if not pipeline.config:
        raise InputError(
            "no config describes this pipeline: it was built, or its parts changed, by hand"
        )
    with atomic(path) as temporary:
        write_tensors(temporary, exported_state(pipeline), description(pipeline))
    return path


def exported_state(pipeline: Pipeline) -> dict[str, Tensor]:
    """Return the weights of an exported file: of the field, and of the codec if it has any."""
    codec = pipeline.codec
    own = codec.state_dict() if isinstance(codec, nn.Module) else {}
    return pipeline.field.state_dict() | {f"{CODECS[0]}{name}": own[name] for name in own}


def find(path: str | Path) -> Path:
    """Return the checkpoint file that ``path`` means: a run folder, a file, or ``hf://user/name``.

    Raises:
        InputError: If there is none.
    """
    if str(path).startswith(FRONT):
        return downloaded(str(path))
    shown = plain(path, 400)
    try:
        path = Path(path).expanduser()
        if path.is_file():
            return path
        if path.is_dir():
            for candidate in (path / LAST, path / LAST.name):
                if candidate.is_file():
                    return candidate
            raise InputError(f"no checkpoint in {shown}: expected {LAST} inside a run folder")
        kind = "that is no ordinary file: " if path.exists() else ""
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot look at '{shown}': {plain(error)}") from None
    raise InputError(f"no checkpoint at '{shown}': {kind}give a run folder or a checkpoint file")


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


def _read(
    file: Path, weights: str, *, trust_code: bool
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """The description, one set of weights, and those of the codec, in the present format."""
    exported = file.suffix == ".safetensors"
    with told_of(file):
        content = _exported(file) if exported else read_training_checkpoint(file)
        if not all(isinstance(content.get(key), Mapping) for key in (KEY, STATE)):
            raise DamageError("it has no description or no weights")
        try:
            if not trust_code:
                check_plain(content[KEY], "description")
            content = migrate(content)
            if not isinstance(content[KEY].get("pipeline"), Mapping):
                raise DamageError("it describes no pipeline")
            state = content[STATE]
            front = CODECS[0] if exported else CODECS[1]
            codec = check_state(
                {
                    name[len(front) :]: state[name]
                    for name in state
                    if isinstance(name, str) and name.startswith(front)
                }
            )
            if not exported:
                return content[KEY], choose(state, weights), codec
            field = {name: state[name] for name in state if not str(name).startswith(front)}
            return content[KEY], check_state(field), codec
        except NewerFormatError as error:
            raise InputError(f"{plain(file, 400)} {error}") from None
        except InputError as error:
            raise InputError(f"{plain(file, 400)}: {error}") from None


def _exported(file: Path) -> dict[str, Any]:
    with opened(file) as stream:
        told, state = read_tensors(file, stream)
    return {KEY: told, STATE: state}


def _built(config: Mapping[str, Any], state: Mapping[str, Tensor], *, trust_code: bool) -> Pipeline:
    """The pipeline of a config, with every part of the kind that sampling needs."""
    with no_more_than(state):
        built = build(config, trust_code=trust_code)
    if not isinstance(built, Pipeline):
        raise InputError(f"the file describes a {type(built).__name__}, not a pipeline")
    for name, kind in _PARTS.items():
        part = getattr(built, name)
        if not isinstance(part, kind):
            raise InputError(f"the {name} of the pipeline cannot be a {type(part).__name__}")
    sizes = [getattr(part, "shape", ()) for part in (built.source, built.field.network)]
    if all(sizes) and tuple(sizes[0]) != tuple(sizes[1]):
        raise InputError(f"the source has shape {tuple(sizes[0])}, the network {tuple(sizes[1])}")
    return built
