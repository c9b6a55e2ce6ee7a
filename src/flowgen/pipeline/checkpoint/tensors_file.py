"""Exported files: ``.safetensors`` with the description and a digest in the header.

The format has no checksum of its own. The header carries the SHA-256 of the description and of
every weight with its name, type and shape; it tells damage, not forgery: whoever writes a file can
write its digest too. The header is looked at before the library parses it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor, uint8

from flowgen.pipeline.checkpoint.layout import KEY
from flowgen.pipeline.checkpoint.problems import DamageError, plain

DIGEST = "flowgen_sha256"
"""Where the digest stands in the header."""

MAX_HEADER = 4 << 20
"""Longest header, in bytes: about 100 for each weight, and the description."""

MAX_DESCRIPTION = 1 << 20
"""Longest description, in characters."""


def write_tensors(file: Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write weights and their description to ``file``."""
    from safetensors.torch import save_file

    weights = {name: value.detach().contiguous().cpu() for name, value in state.items()}
    text = json.dumps(about)
    save_file(weights, file, metadata={KEY: text, DIGEST: digest(text, weights)})


def read_tensors(file: Path, stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return description and weights of an exported file, compared with their digest.

    Args:
        file: Its path, which the library maps into memory.
        stream: The same file, open.

    Raises:
        DamageError: If the header is too long, or anything is not as written.
    """
    from safetensors import safe_open

    text, told = _metadata(stream)
    with safe_open(file, framework="pt") as opened:
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    about = json.loads(text)
    if not isinstance(about, dict):
        raise DamageError("the description is no mapping")
    # Files of format 1 were written without a digest.
    if (told is not None or about.get("format") != 1) and told != digest(text, state):
        raise DamageError("weights or description fail their checksum")
    return about, state


def digest(text: str, state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a description and of weights, in the order of their names."""
    total = hashlib.sha256(text.encode())
    for name in sorted(state):
        value = state[name]
        total.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        total.update(value.reshape(-1).view(uint8).numpy().data)
    return total.hexdigest()


def _metadata(stream: BinaryIO) -> tuple[str, str | None]:
    """The description and the digest in the header: of a sane length, with no key twice."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > min(MAX_HEADER, size - 8):
        raise DamageError(f"a header of {length} bytes in a file of {size}")
    header = json.loads(stream.read(length), object_pairs_hook=_no_key_twice)
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not isinstance(text := metadata.get(KEY), str):
        raise DamageError("the header has no description")
    if len(text) > MAX_DESCRIPTION:
        raise DamageError(f"a description of {len(text)} characters")
    return text, metadata.get(DIGEST)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DamageError(f"the header names '{plain(pairs[-1][0], 40)}' or another key twice")
    return found
