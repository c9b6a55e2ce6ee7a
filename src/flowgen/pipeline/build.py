"""Build objects from plain configs, of classes from an allow-list of packages only.

A config is a tree of dicts in which ``_target_`` names a class or function. A checkpoint carries
such a tree, so whoever made the file chooses the names: every one is resolved and checked before
anything is called. The check looks at where an object was *defined*, not at the path by which it
was reached, so ``flowgen.cli.main.os.system`` is refused as well.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from flowgen.core import InputError

ALLOWED = (
    "flowgen.paths",
    "flowgen.models",
    "flowgen.integrators",
    "flowgen.data",
    "flowgen.pipeline.pipeline",
    "torch.nn.modules",
)
"""Where the classes that a config may name are defined, unless the caller trusts the code."""


def targets(config: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(place in the config, name)`` for every ``_target_`` of a nested plain config."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key == "_target_":
                yield where or "top level", str(value)
            else:
                yield from targets(value, f"{where}.{key}" if where else str(key))
    elif isinstance(config, list | tuple):
        for i, value in enumerate(config):
            yield from targets(value, f"{where}[{i}]")


def check_targets(config: Any) -> None:
    """Raise unless every ``_target_`` is a class defined in an allowed package.

    A plain config has no ``${...}`` left. One that has is refused: it would be resolved only after
    this check, and ``${oc.create:...}`` makes a ``_target_`` out of a string.

    Raises:
        InputError: Naming the place and what is not allowed there.
    """
    for where, text in _strings(config):
        if "${" in text:
            raise InputError(
                f"{where}: '{text[:60]}' refers to another value, which no stored config does; "
                "pass trust_code=True only if you trust whoever wrote this file"
            )
    for where, name in targets(config):
        if not _allowed(name):
            raise InputError(
                f"{where}: target '{name}' is not a class of flowgen's or torch.nn's; "
                "pass trust_code=True only if you trust whoever wrote this file"
            )


def build(config: Mapping[str, Any], *, trust_code: bool = False) -> Any:
    """Return the object that a plain config describes.

    Args:
        config: Nested dicts and lists with ``_target_`` (and ``_partial_``) keys.
        trust_code: Also call names outside :data:`ALLOWED`.

    Raises:
        InputError: If a target is not allowed, does not exist or rejects its arguments.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if not trust_code:
        check_targets(config)
    try:
        return instantiate(config, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise InputError(f"the config cannot be built: {str(cause).splitlines()[0]}") from error


def _strings(config: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(place, text)`` for every string of a nested plain config, keys included."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            place = f"{where}.{key}" if where else str(key)
            yield place, str(key)
            yield from _strings(value, place)
    elif isinstance(config, list | tuple):
        for i, value in enumerate(config):
            yield from _strings(value, f"{where}[{i}]")
    elif isinstance(config, str):
        yield where, config


def _allowed(name: str) -> bool:
    if name.split(".")[0] not in {package.split(".")[0] for package in ALLOWED}:
        return False
    from hydra.utils import get_object

    try:
        found = get_object(name)
    except Exception:  # noqa: BLE001 - whatever goes wrong while resolving, it is not allowed
        return False
    return isinstance(found, type) and any(
        found.__module__ == package or found.__module__.startswith(f"{package}.")
        for package in ALLOWED
    )
