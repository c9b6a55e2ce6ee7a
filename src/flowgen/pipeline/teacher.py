"""The velocity of a checkpoint, as a teacher."""

from functools import lru_cache

from flowgen.core import InputError, VelocityField
from flowgen.models import Guidance
from flowgen.pipeline.checkpoint import find, load
from flowgen.pipeline.pipeline import Pipeline


def teacher_field(
    checkpoint: str,
    guidance: Guidance | None = None,
    *,
    weights: str = "ema",
    trust_code: bool = False,
) -> VelocityField:
    """Return the velocity field of a checkpoint, guided where asked for, on the CPU.

    Parts of one objective that name the same teacher share its weights.

    Args:
        checkpoint: Run folder or file.
        guidance: A rule of ``flowgen.models``; none if None.
        weights: ``ema`` (averaged) or ``raw``.
        trust_code: Also build classes from outside flowgen that the file names.

    Raises:
        InputError: If it cannot be read, cannot be guided so, or knows no velocity.
    """
    pipeline = teacher_pipeline(checkpoint, weights=weights, trust_code=trust_code)
    return (pipeline if guidance is None else pipeline.guided(guidance)).velocity()


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
