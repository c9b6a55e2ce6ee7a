"""The rows that a model from data to data starts from: found again where its checkpoint says.

Like the data of a run they are only described in a checkpoint. Nothing is read when it is loaded,
but when the first sample is drawn, and then by the classes of ``flowgen.data`` alone.
"""

from collections.abc import Mapping
from typing import Any

from flowgen.core import InputError
from flowgen.data import Codec, DataSource
from flowgen.pipeline.stored import stored_data

KEY = "source_data"
"""Where a checkpoint describes the data set of its source."""


def opened(source: DataSource, codec: Codec, about: Mapping[str, Any]) -> DataSource:
    """Return the source with its rows, read where the checkpoint says if they are not there yet.

    Args:
        source: Of the model.
        codec: Of the model.
        about: What the checkpoint says of itself.

    Raises:
        InputError: If the rows are gone or the checkpoint does not say where they are.
    """
    if source.ready:
        return source
    told = about.get(KEY)
    if not told:
        raise InputError(
            "this model starts from data, and its checkpoint does not say which: give "
            "images=<folder>"
        )
    try:
        source.use(stored_data(told), codec)
    except InputError as error:
        raise InputError(
            f"the source of this model cannot be used ({error}): give other images by "
            "images=<folder>"
        ) from error
    return source
