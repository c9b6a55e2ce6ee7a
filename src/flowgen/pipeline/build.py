"""Build objects from plain configs.

A config is a tree of dicts in which ``_target_`` names a class or function. One that the user
composed may name anything and goes to Hydra. One that came out of a file is built from an
allow-list of classes, without Hydra: see :mod:`flowgen.pipeline.allowed`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flowgen.core import InputError
from flowgen.pipeline.allowed import DATA, PIPELINE, check_targets
from flowgen.pipeline.stored import build_stored

__all__ = ["DATA", "PIPELINE", "build", "check_targets"]


def build(
    config: Mapping[str, Any], *, trust_code: bool = False, allowed: Sequence[str] = PIPELINE
) -> Any:
    """Return the object that a plain config describes.

    Args:
        config: Nested dicts and lists with ``_target_`` (and ``_partial_``) keys.
        trust_code: Call whatever it names, with all that Hydra offers.
        allowed: Packages whose classes it may name otherwise: :data:`PIPELINE` or :data:`DATA`.

    Raises:
        InputError: If a target is not allowed, does not exist or rejects its arguments.
    """
    if not trust_code:
        return build_stored(config, allowed)
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(config, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise InputError(f"the config cannot be built: {str(cause).splitlines()[0]}") from error
