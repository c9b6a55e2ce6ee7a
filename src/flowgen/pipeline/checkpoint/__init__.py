"""Files that describe themselves: weights, the plain config of their pipeline, conventions, format.

Two kinds of file are read: a training checkpoint (``.ckpt``, raw and averaged weights) and an
exported one (``.safetensors``, one set of weights, the description in the header). Every byte is
checked against its checksum, neither is ever unpickled beyond tensors and plain containers, and the
weights must fit exactly.
"""

from flowgen.pipeline.checkpoint.hub import FRONT
from flowgen.pipeline.checkpoint.layout import (
    FORMAT,
    KEY,
    LAST,
    PREFIXES,
    clean_names,
    description,
)
from flowgen.pipeline.checkpoint.loading import find, load, pick_device, save
from flowgen.pipeline.checkpoint.reading import read_training_checkpoint, verify
from flowgen.pipeline.checkpoint.writing import atomic

__all__ = [
    "FORMAT",
    "FRONT",
    "KEY",
    "LAST",
    "PREFIXES",
    "atomic",
    "clean_names",
    "description",
    "find",
    "load",
    "pick_device",
    "read_training_checkpoint",
    "save",
    "verify",
]
