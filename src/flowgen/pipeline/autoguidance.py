"""Autoguidance from a checkpoint of the weaker model."""

from flowgen.core import InputError
from flowgen.models import Autoguidance
from flowgen.pipeline.checkpoint import load


def autoguidance(
    checkpoint: str,
    *,
    scale: float = 2.0,
    weights: str = "ema",
    device: str = "auto",
    trust_code: bool = False,
) -> Autoguidance:
    """Return the rule that guides a pipeline away from the model of a checkpoint.

    Args:
        checkpoint: Run folder or file of the weaker model.
        scale: At least 0; 1 is off.
        weights: ``ema`` or ``raw``.
        device: Where to put it: that of the pipeline it guides.
        trust_code: Also build classes from outside flowgen that the file names.

    Raises:
        InputError: If the checkpoint cannot be read, or ``scale`` leaves its range.
    """
    if not scale >= 0:
        raise InputError(f"guidance.scale must be at least 0, got {scale}")
    weak = load(checkpoint, weights=weights, device=device, trust_code=trust_code)
    return Autoguidance(weak.field, float(scale))
