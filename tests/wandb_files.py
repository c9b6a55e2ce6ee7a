"""Read an offline run of Weights & Biases back: a LevelDB log of protobuf records.

The file starts with 7 bytes; blocks of 32 KiB hold records of a header (crc, length, type: 1 whole,
2 first, 3 middle, 4 last) and a payload.
"""

import json
import struct
from pathlib import Path

BLOCK = 32 * 1024


def records(file: Path):
    """Yield the protobuf records of a ``.wandb`` file; a torn end is left out."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if kind == 0 or at + 7 + length > len(data):
            return
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def read(folder: Path):
    """Return the id, the config and the history of all sessions of a run folder, in order."""
    run_id, config, history = None, {}, []
    for file in sorted(folder.glob("wandb/*run-*/*.wandb")):
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run_id = record.run.run_id
                config |= _items(record.run.config.update)
            elif kind == "config":
                config |= _items(record.config.update)
            elif kind == "history":
                history.append(_items(record.history.item))
    return run_id, config, history


def _items(items):
    found = {}
    for item in items:
        keys = list(item.nested_key) or [item.key]
        place = found
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = json.loads(item.value_json)
    return found
