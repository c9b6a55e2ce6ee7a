"""From a node of the config to its object; what an object rejects is told with its key."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from flowgen.core import InputError


def make(node: Any, key: str, *args: Any) -> Any:
    """Return the object a config node describes; what it rejects is told with its key.

    Raises:
        InputError: ``<key>: <what the constructor said>``.
    """
    try:
        return instantiate(node, *args, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise InputError(f"{key}: {cause}") from error
        if isinstance(cause, ValueError | TypeError | ImportError):
            raise InputError(f"{key}: {str(cause).splitlines()[0]}") from error
        raise
