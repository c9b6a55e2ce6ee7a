"""Honest archives with hostile or broken descriptions and weights."""

from collections.abc import Callable
from pathlib import Path

import torch

from forged import Case, checkpoint, content
from small import vector_config


def _nested(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def _laughs() -> list:
    value: list = ["ha"]
    for _ in range(28):
        value = [value, value]
    return value


def _pipeline(path: Path, **changes) -> None:
    checkpoint(path, {"pipeline": vector_config() | changes})


def _target(path: Path, target, **settings) -> None:
    _pipeline(path, source={"_target_": target, **settings})


def _network(path: Path, **settings) -> None:
    config = vector_config()
    config["field"]["network"] |= settings
    checkpoint(path, {"pipeline": config})


def _weights(path: Path, change: Callable[[dict], dict]) -> None:
    honest = content()
    torch.save(honest | {"state_dict": change(honest["state_dict"])}, path)


CONFIGS = (
    Case(
        "target_system.ckpt",
        "config that names os.system",
        lambda p, m: _target(p, "os.system", _args_=[f"touch {m}"]),
    ),
    Case(
        "target_deep.ckpt",
        "the same inside the arguments of an allowed class",
        lambda p, m: _target(
            p, "flowgen.data.Gaussian", shape=[{"_target_": "os.system", "_args_": [f"touch {m}"]}]
        ),
    ),
    Case(
        "target_hidden.ckpt",
        "the same where nothing is built (`_recursive_: false`)",
        lambda p, m: _target(
            p,
            "flowgen.data.Gaussian",
            _recursive_=False,
            shape={"_target_": "os.system", "_args_": [f"touch {m}"]},
        ),
    ),
    Case(
        "target_reached.ckpt",
        "os reached through a module of flowgen's",
        lambda p, m: _target(p, "flowgen.pipeline.checkpoint.writing.os.system"),
    ),
    Case(
        "target_globals.ckpt",
        "attribute walk from an allowed class",
        lambda p, m: _target(p, "flowgen.models.DiT.__init__.__globals__"),
    ),
    Case(
        "target_dunder.ckpt",
        "`__class__` of an allowed package",
        lambda p, m: _target(p, "flowgen.models.__class__"),
    ),
    Case(
        "target_cyrillic.ckpt",
        "look-alike name with a Cyrillic letter",
        lambda p, m: _target(p, "flowg\u0435n.data.Gaussian", shape=[2]),
    ),
    Case(
        "target_space.ckpt",
        "allowed name with a space",
        lambda p, m: _target(p, "flowgen.data.Gaussian ", shape=[2]),
    ),
    Case(
        "target_dots.ckpt",
        "allowed name with two dots",
        lambda p, m: _target(p, "flowgen..data.Gaussian", shape=[2]),
    ),
    Case("target_list.ckpt", "target that is no text", lambda p, m: _target(p, ["os", "system"])),
    Case(
        "target_function.ckpt",
        "function of flowgen's that writes files",
        lambda p, m: _target(p, "flowgen.pipeline.save", _args_=[str(m)]),
    ),
    Case(
        "target_command.ckpt",
        "the command line of flowgen",
        lambda p, m: _target(p, "flowgen.cli.main.main", _args_=[["train"]]),
    ),
    Case(
        "target_partial.ckpt",
        "os.system as a partial",
        lambda p, m: _target(p, "functools.partial", _args_=["os.system"], _partial_=True),
    ),
    Case(
        "target_torch.ckpt",
        "torch.load through torch.nn",
        lambda p, m: _target(p, "torch.nn.modules.module.torch.load", _args_=[str(m)]),
    ),
    Case(
        "target_files.ckpt",
        "data set that reads a folder, as a source",
        lambda p, m: _target(p, "flowgen.data.ImageFolder", root="/"),
    ),
    Case(
        "target_download.ckpt",
        "data set that downloads, as a source",
        lambda p, m: _target(p, "flowgen.data.FashionMNIST", download=True, root=str(m)),
    ),
    Case(
        "interpolation.ckpt",
        "value resolved after the check",
        lambda p, m: _target(p, "flowgen.data.Gaussian", shape="${oc.env:HOME}"),
    ),
    Case(
        "wrong_type.ckpt",
        "text where a number belongs",
        lambda p, m: _network(p, width="16; import os"),
    ),
    Case("wrong_part.ckpt", "a part of the wrong kind", lambda p, m: _target(p, "torch.nn.ReLU")),
    Case("wide.ckpt", "network of 10^10 weights", lambda p, m: _network(p, width=100_000)),
    Case("long.ckpt", "network of 10^6 layers", lambda p, m: _network(p, depth=1_000_000, width=1)),
    Case(
        "steps.ckpt",
        "time grid of 10^12 steps",
        lambda p, m: _pipeline(p, sampler=vector_config()["sampler"] | {"num_steps": 10**12}),
    ),
    Case("nested.ckpt", "config nested 200 deep", lambda p, m: checkpoint(p, {"x": _nested(200)})),
    Case(
        "laughs.ckpt",
        "lists of lists, 2^28 values when walked",
        lambda p, m: checkpoint(p, {"x": _laughs()}),
    ),
    Case("number_key.ckpt", "key that is no text", lambda p, m: checkpoint(p, {"x": {1: 2}})),
    Case(
        "escape.ckpt",
        "terminal control characters in a name",
        lambda p, m: checkpoint(p, {"name": "\x1b]0;owned\x07"}),
    ),
    Case("format_99.ckpt", "format of the future", lambda p, m: checkpoint(p, {"format": 99})),
    Case(
        "format_text.ckpt", "format that is no number", lambda p, m: checkpoint(p, {"format": "2"})
    ),
    Case(
        "wrapper.ckpt",
        "weights named by a wrapper",
        lambda p, m: _weights(
            p, lambda s: {k.replace("field.", "field._orig_mod."): v for k, v in s.items()}
        ),
    ),
    Case(
        "missing.ckpt",
        "a weight left out",
        lambda p, m: _weights(p, lambda s: dict(list(s.items())[1:])),
    ),
    Case(
        "integers.ckpt",
        "whole numbers where reals belong",
        lambda p, m: _weights(p, lambda s: {k: v.long() for k, v in s.items()}),
    ),
    Case(
        "no_tensor.ckpt",
        "text among the weights",
        lambda p, m: _weights(p, lambda s: s | {"ema.field.x": "text"}),
    ),
)
