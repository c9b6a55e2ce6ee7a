"""Exported files with hostile or broken headers."""

import os

from flowgen.pipeline.checkpoint import KEY
from forged import Case, called, exported, flipped, safetensors


def _header(changes: dict) -> dict:
    return {
        "__metadata__": {KEY: "{}"},
        "w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
    } | changes


HEADERS = (
    Case(
        "header_2_63.safetensors",
        "header of 2^63 bytes",
        lambda p, m: safetensors(p, {}, length=1 << 63),
    ),
    Case(
        "header_long.safetensors",
        "header longer than the file",
        lambda p, m: safetensors(p, {}, length=4096),
    ),
    Case(
        "header_10_mb.safetensors",
        "10 MB of JSON",
        lambda p, m: safetensors(p, _header({"__metadata__": {KEY: "x" * (10 << 20)}})),
    ),
    Case(
        "header_deep.safetensors",
        "JSON nested 100000 deep",
        lambda p, m: safetensors(p, b"[" * 100_000),
    ),
    Case(
        "header_not_utf8.safetensors",
        "header that is not UTF-8",
        lambda p, m: safetensors(p, b'{"__metadata__": {"\xff\xfe": "x"}}'),
    ),
    Case(
        "header_twice.safetensors",
        "one key twice",
        lambda p, m: safetensors(p, b'{"__metadata__": {}, "__metadata__": {"flowgen": "{}"}}'),
    ),
    Case(
        "overlap.safetensors",
        "weights that overlap",
        lambda p, m: safetensors(
            p, _header({"v": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})
        ),
    ),
    Case(
        "outside.safetensors",
        "offsets behind the end",
        lambda p, m: safetensors(
            p, _header({"w": {"dtype": "F32", "shape": [400], "data_offsets": [0, 1600]}})
        ),
    ),
    Case(
        "nan_shape.safetensors",
        "size that is not a number",
        lambda p, m: safetensors(
            p, _header({"w": {"dtype": "F32", "shape": [float("nan")], "data_offsets": [0, 16]}})
        ),
    ),
    Case(
        "description_list.safetensors",
        "description that is no mapping",
        lambda p, m: safetensors(p, _header({"__metadata__": {KEY: "[]"}})),
    ),
    Case(
        "foreign.safetensors",
        "weights of another program",
        lambda p, m: safetensors(p, _header({"__metadata__": {"format": "pt"}})),
    ),
    Case(
        "flip_weight.safetensors",
        "one bit of a weight turned over",
        lambda p, m: flipped(p, exported(p), -5),
    ),
    Case(
        "flip_text.safetensors",
        "one letter of the description changed",
        lambda p, m: p.write_bytes(exported(p).replace(b"Linear", b"linear")),
    ),
    Case("cut.safetensors", "last byte missing", lambda p, m: p.write_bytes(exported(p)[:-1])),
    Case(
        "pickle.safetensors",
        "pickle under the name of safetensors",
        lambda p, m: called(p, os.system, f"touch {m}"),
    ),
)
