"""The velocity of a checkpoint, as a teacher."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from flowgen.core import InputError, VelocityField
from flowgen.models import (
    Autoguidance,
    CFGZero,
    ClassifierFree,
    Guidance,
    ToldScale,
    check_range,
)
from flowgen.pipeline.checkpoint import find, load
from flowgen.pipeline.pipeline import Pipeline


def teacher_field(
    checkpoint: str,
    guidance: Guidance | None = None,
    *,
    guidance_range: Sequence[float] | None = None,
    weights: str = "ema",
    trust_code: bool = False,
) -> VelocityField:
    """Return the velocity field of a checkpoint, guided where asked for, on the CPU.

    Parts of one objective that name the same teacher share its weights.

    Args:
        checkpoint: Run folder or file.
        guidance: A rule of ``flowgen.models``; none if None.
        guidance_range: Scales that the rule is wanted with: the field is then told that of each
            row, ``cond["guidance"]``. None takes the rule's own.
        weights: ``ema`` (averaged) or ``raw``.
        trust_code: Also build classes from outside flowgen that the file names.

    Raises:
        InputError: If it cannot be read, cannot be guided so, or knows no velocity.
    """
    pipeline = teacher_pipeline(checkpoint, weights=weights, trust_code=trust_code)
    if guidance_range is not None:
        check_range(guidance_range)
        return told(pipeline, guidance)
    return (pipeline if guidance is None else pipeline.guided(guidance)).velocity()


def told(pipeline: Pipeline, guidance: Guidance | None) -> ToldScale:
    """Return the velocity of a pipeline, guided by the scale that every row is told.

    Raises:
        InputError: If there is no guidance, it cannot guide this model, or is not an extrapolation
            of a scale.
    """
    rescaled = isinstance(guidance, ClassifierFree) and guidance.rescale > 0
    if rescaled or not isinstance(guidance, ClassifierFree | CFGZero | Autoguidance):
        raise InputError(
            "guidance_range is for guidance=cfg without guidance.rescale, cfg_zero and auto: "
            "others are not known at every scale from two"
        )
    full, none = (pipeline.guided(replace(guidance, scale=scale)) for scale in (1.0, 0.0))
    return ToldScale(full.velocity(), none.velocity())


def teacher_pipeline(
    checkpoint: str, *, weights: str = "ema", trust_code: bool = False
) -> Pipeline:
    """Return the pipeline of a teacher, on the CPU; the same one for the same file.

    Args:
        checkpoint: Run folder or file.
        weights: ``ema`` (averaged) or ``raw``.
        trust_code: Also build classes from outside flowgen that the file names.

    Raises:
        InputError: If it cannot be read, or leads to fixed times and knows no velocity.
    """
    file = find(checkpoint)
    pipeline = _loaded(str(file), file.stat().st_mtime_ns, weights, trust_code)
    edges = getattr(pipeline.field, "edges", None)
    if edges is not None:
        raise InputError(
            f"teacher={checkpoint} is itself a student that leads to fixed times, and knows no "
            "velocity to follow: give the model that it was distilled from"
        )
    return pipeline


@lru_cache(maxsize=4)
def _loaded(file: str, changed: int, weights: str, trust_code: bool) -> Pipeline:
    del changed  # a file that was written again is another one
    return load(file, weights=weights, device="cpu", trust_code=trust_code)
