"""Build objects from a stored config without Hydra: only allowed classes, only fitting arguments.

Hydra resolves names and interpolations for configs that the user composes. A config out of a file
needs none of that, so it never gets there: it is plain data, and this builder knows ``_target_``,
``_partial_`` and ``_args_`` alone.
"""

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from flowgen.core import InputError
from flowgen.data import DataSet
from flowgen.pipeline.allowed import DATA, PIPELINE, check_targets, kind, resolve, shorten

_FIXED = {"_recursive_": True, "_convert_": "all"}


def build_stored(config: Any, allowed: Sequence[str] = PIPELINE) -> Any:
    """Return the object that a stored config describes.

    Args:
        config: Nested dicts and lists with ``_target_`` keys.
        allowed: Packages whose classes may be named.

    Raises:
        InputError: In one line, for a target that is not allowed, an argument that does not fit, or
            whatever a constructor raises.
    """
    check_targets(config, allowed)
    return _build(config, "", allowed)


def stored_data(config: Any, without: Sequence[str] = ()) -> DataSet:
    """Return the data set that a checkpoint says it was trained on; nothing is downloaded for it.

    It may read a folder that the file names, as the user's own runs do; it is not written to.

    Args:
        config: The plain ``data`` node of a description.
        without: Settings that belong to the loader.

    Raises:
        InputError: If it is no data set of flowgen's, or its data are not there.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"data: the checkpoint describes no data set but {kind(config)}")
    own = {key: value for key, value in config.items() if key not in without}
    if "download" in own:
        own["download"] = False
    built = build_stored(own, DATA)
    if not isinstance(built, DataSet):
        raise InputError(f"data: the checkpoint describes a {kind(built)}, not a data set")
    return built


def _build(value: Any, where: str, allowed: Sequence[str]) -> Any:
    if isinstance(value, list | tuple):
        return [_build(item, f"{where}[{i}]", allowed) for i, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    built = {
        key: _build(item, f"{where}.{key}" if where else key, allowed)
        for key, item in value.items()
        if key != "_target_"
    }
    if "_target_" not in value:
        return built
    found = resolve(value["_target_"], allowed)
    assert found is not None
    return _call(found, built, where)


def _call(found: type, settings: dict[str, Any], where: str) -> Any:
    for key, only in _FIXED.items():
        if settings.pop(key, only) != only:
            raise InputError(f"{where or 'top level'}: a stored config can have {key}={only} only")
    deferred, args = settings.pop("_partial_", False), settings.pop("_args_", [])
    if not isinstance(deferred, bool) or not isinstance(args, list):
        raise InputError(
            f"{where or 'top level'}: _partial_ must be true or false, and _args_ a list"
        )
    _check_arguments(found, args, settings, where, deferred)
    if deferred:
        return partial(found, *args, **settings)
    try:
        return found(*args, **settings)
    except Exception as error:  # noqa: BLE001 - whatever a constructor says, the file is to blame
        line = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"the config cannot be built: {shorten(where or found.__name__)}: {line}"
        ) from error


def _check_arguments(
    found: type, args: list[Any], settings: dict[str, Any], where: str, deferred: bool
) -> None:
    """Compare names and plain types of arguments with the signature, where it says them."""
    try:
        signature = inspect.signature(found)
        bind = signature.bind_partial if deferred else signature.bind
        given = bind(*args, **settings).arguments
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the config cannot be built: {shorten(where or 'top level')}: {found.__name__}: "
            f"{shorten(str(error))}"
        ) from None
    hints = _hints(found)
    for name, value in given.items():
        if name in hints and not _fits(value, hints[name]):
            raise InputError(
                f"the config cannot be built: {shorten(f'{where}.{name}'.lstrip('.'))} must be "
                f"{_readable(hints[name])}, got {_shown(value)}"
            )


def _hints(found: type) -> dict[str, Any]:
    """Annotations of a class's arguments; those that cannot be read are left out."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        hints = get_type_hints(found.__init__)
        parameters = inspect.signature(found).parameters
    except (NameError, TypeError, ValueError):
        return {}
    return {name: hint for name, hint in hints.items() if name in parameters} | {
        name: Any for name, parameter in parameters.items() if parameter.kind in variadic
    }


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; annotations of other kinds accept everything."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(
            value, bool
        )
    if origin is Callable or hint is Callable:
        return callable(value)
    bare = origin or hint
    if not isinstance(bare, type):
        return True
    if isinstance(value, list) and bare in (list, tuple, Sequence, Iterable, Collection):
        # A stored config knows lists only; a tuple of unlike entries is left to the constructor.
        alike = len(inner) == 1 or (len(inner) == 2 and inner[1] is Ellipsis)
        return not alike or all(_fits(item, inner[0]) for item in value)
    try:
        return isinstance(value, bare)
    except TypeError:
        return True


def _shown(value: Any) -> str:
    if value is None or not isinstance(value, str | int | float):
        return kind(value)
    return f"{kind(value)} {shorten(repr(value), 40)}"


def _readable(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("collections.abc.", "")
