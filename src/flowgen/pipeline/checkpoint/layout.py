"""What stands in a checkpoint beside its weights, and where."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgen.pipeline.conventions import describe
from flowgen.pipeline.pipeline import Pipeline

FORMAT = 2
"""Version of the layout of a checkpoint; :mod:`~flowgen.pipeline.checkpoint.migrations` reads older
ones."""

KEY = "flowgen"
"""Where the description stands: a key of a training checkpoint, of a safetensors header."""

STATE = "state_dict"
"""Where the weights stand in a training checkpoint."""

PREFIXES = {"ema": "ema.field.", "raw": "pipeline.field."}
"""Where each set of weights stands in the ``state_dict`` of a training checkpoint."""

CODECS = ("codec.", "pipeline.codec.")
"""Where the weights of a codec stand: in an exported file, in a training checkpoint."""

LAST = Path("checkpoints") / "last.ckpt"
"""The newest checkpoint inside a run folder."""

_DATA_PARALLEL = re.compile(r"^((?:pipeline|ema)\.field\.)?(?:module\.)+")
_OWN = ("format", "pipeline", "version", "conventions")


def description(pipeline: Pipeline) -> dict[str, Any]:
    """Return what a file must carry beside the weights to rebuild ``pipeline``: plain data."""
    return {"format": FORMAT, "pipeline": pipeline.config, **describe(pipeline.about)}


def about(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a description that is the run's own: name, data, step."""
    return {key: value for key, value in description.items() if key not in _OWN}


def clean_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``state`` with names that say where a weight belongs, not how it was trained.

    ``torch.compile`` puts ``_orig_mod.`` anywhere into names, data-parallel training ``module.`` in
    front: ``pipeline.field._orig_mod.embed.weight`` becomes ``pipeline.field.embed.weight``.

    Raises:
        ValueError: If two names become one.
    """
    cleaned: dict[str, Any] = {}
    for name, value in state.items():
        own = clean_name(name)
        if own in cleaned:
            raise ValueError(f"two weights are named '{own}'")
        cleaned[own] = value
    return cleaned


def clean_name(name: str) -> str:
    """Return a weight's name without those of wrappers."""
    bare = ".".join(part for part in name.split(".") if part != "_orig_mod")
    return _DATA_PARALLEL.sub(r"\1", bare)
