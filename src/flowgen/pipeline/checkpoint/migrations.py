"""From older formats to the present one, a step at a time.

Content is a plain dict: the description under ``flowgen``, weights under ``state_dict``, and in a
training checkpoint what Lightning and the run put beside them. Each step takes the content of its
format and returns that of the next; ``tests/pipeline/old_formats`` holds a file of each.

Format 1
    The first. Names of weights could carry ``module.`` and ``_orig_mod.``; exported files have no
    digest.
Format 2
    Names of weights are clean; exported files carry the SHA-256 of their weights and description.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flowgen.pipeline.checkpoint.layout import FORMAT, KEY, STATE, clean_names
from flowgen.pipeline.checkpoint.problems import DamageError, plain

Content = dict[str, Any]


def _from_1(content: Content) -> Content:
    return content | {STATE: clean_names(content[STATE])}


STEPS: Mapping[int, Callable[[Content], Content]] = {1: _from_1}
"""The step away from each older format."""


class NewerFormatError(ValueError):
    """A file of a format that this flowgen does not know yet."""


def check_format(found: Any) -> None:
    """Raise unless files of this format can be read.

    Raises:
        NewerFormatError: If it is newer than this flowgen.
        DamageError: If it is no format.
    """
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise DamageError(f"format {plain(found, 30)} is none of flowgen's")
    if found > FORMAT:
        raise NewerFormatError(
            f"has checkpoint format {plain(found, 30)}, this flowgen reads 1 to {FORMAT}: "
            "install the flowgen version that wrote it, or a newer one"
        )


def migrate(content: Content) -> Content:
    """Return ``content`` in the present format; what is given stays as it is.

    Args:
        content: Plain dict with :data:`KEY` and :data:`STATE`.

    Raises:
        NewerFormatError: If it is newer than this flowgen.
        DamageError: If it is no format.
    """
    found = content[KEY].get("format")
    check_format(found)
    for version in range(found, FORMAT):
        content = STEPS[version](content)
        content = content | {KEY: dict(content[KEY]) | {"format": version + 1}}
    return content
