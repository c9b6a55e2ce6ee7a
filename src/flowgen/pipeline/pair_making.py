"""Pairs of a model's flow: each source sample and where it is taken, written in shards.

Pair ``i`` depends on the model, the seed and ``i`` alone, so a set can be made in parts, gone on
with after an interruption, and enlarged.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from flowgen.core import InputError
from flowgen.couplings import PairFolder
from flowgen.couplings.pair_folder import INDEX
from flowgen.data import DataSource
from flowgen.models import LabelConditioner
from flowgen.pipeline.checkpoint.writing import atomic
from flowgen.pipeline.parts import Labels
from flowgen.pipeline.pipeline import Pipeline
from flowgen.pipeline.source_data import opened


def make_pairs(
    pipeline: Pipeline,
    folder: str | Path,
    num_pairs: int,
    *,
    shard_size: int = 4096,
    label: Labels = None,
    seed: int = 0,
    chunk: int = 256,
    settings: Mapping[str, Any] | None = None,
    told: Callable[[int], None] | None = None,
) -> PairFolder:
    """Write pairs of a model's flow, from where the folder ends, and return the folder.

    Args:
        pipeline: Whose flow makes the pairs, guided or not; its sampler draws no noise.
        folder: New, or one that was begun with the same model and settings.
        num_pairs: How many there shall be in all, >= 1.
        shard_size: Pairs of a shard, >= 1, which are lost at most where the work is interrupted.
        label: As in :meth:`Pipeline.sample`; None takes every class in turn.
        seed: Of the source samples.
        chunk: How many are integrated at once.
        settings: What else the pairs follow from, plain values: sampler, guidance. A folder of
            others is refused.
        told: Is called with the number of pairs that are there, at first and after each chunk.

    Raises:
        InputError: If a number is out of range, the sampler is stochastic, the folder was made with
            other settings or holds more pairs.
    """
    given = {"num_pairs": num_pairs, "shard_size": shard_size, "chunk": chunk, "seed": seed + 1}
    for name, value in given.items():
        if value < 1:
            least = 0 if name == "seed" else 1
            raise InputError(f"{name} must be >= {least}, got {value - 1 + least}")
    if pipeline.sampler.stochastic:
        raise InputError(
            f"pairs are made by an ODE, and {pipeline.sampler.stepper!r} draws noise: use an ODE "
            "sampler such as sampler=heun"
        )
    conditioner = pipeline.conditioner
    if not (conditioner is None or isinstance(conditioner, LabelConditioner)):
        raise InputError(
            f"pairs are kept with a label at most, and this model takes "
            f"{', '.join(conditioner.kinds)}"
        )
    labels = pipeline.labels(num_pairs, label)
    if isinstance(pipeline.source, DataSource):
        # A student trains on them, so they start from what the teacher was trained with.
        source = opened(pipeline.source, pipeline.codec, pipeline.about)
        pipeline = pipeline.with_source(source.of_training(seed))
        settings = {**(settings or {}), "source": source.digest}
    own = {"weights": digest_of_weights(pipeline), "label": plain_label(label), "seed": seed}
    wanted = PairFolder(
        folder=Path(folder).expanduser(),
        settings={**own, **(settings or {})},
        codec=dict(pipeline.codec.to_config()),
        label_names=None if conditioner is None else conditioner.names,
        num_classes=None if conditioner is None else conditioner.num_classes,
        num_pairs=num_pairs,
        shard_size=shard_size,
    )
    made = _begun(wanted)
    if told is not None:
        told(len(made))
    while not made.complete:
        numbers = made.numbers(len(made.counts))
        parts, done = [], numbers.start
        for x_1 in pipeline.stream(
            len(numbers), label=label, seed=seed, chunk=chunk, decode=False, first=numbers.start
        ):
            parts.append(x_1)
            done += len(x_1)
            if told is not None:
                told(done)
        tensors = {"x_0": pipeline.noise(seed, numbers).float(), "x_1": torch.cat(parts).float()}
        if not bool(tensors["x_1"].isfinite().all()):
            raise InputError("the model's samples are not finite: nothing is written of them")
        if labels is not None:
            tensors["label"] = labels[numbers.start : numbers.stop]
        made = made.with_shard(tensors, atomic)
    return made


def digest_of_weights(pipeline: Pipeline) -> str:
    """Return a digest of all numbers of a pipeline's field, wherever its file is."""
    digest = hashlib.sha256()
    for name, value in sorted(pipeline.field.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def plain_label(label: Labels) -> Any:
    """Return the choice of labels as plain values."""
    if isinstance(label, torch.Tensor):
        return label.tolist()
    return label if label is None or isinstance(label, int | str) else list(label)


def _begun(wanted: PairFolder) -> PairFolder:
    """Return the folder as it is, with what is sound of the shards there, or a new one.

    Raises:
        InputError: If it was made otherwise, or holds more.
    """
    if not (wanted.folder / INDEX).exists():
        if wanted.folder.exists() and (
            not wanted.folder.is_dir() or any(wanted.folder.glob("[!.]*"))
        ):
            raise InputError(f"{wanted.folder} is there and holds no pairs: choose another out=")
        wanted.write(atomic)
        return wanted
    found = PairFolder.read(wanted.folder)
    for name in ("settings", "codec", "num_classes", "label_names", "shard_size"):
        old, new = getattr(found, name), getattr(wanted, name)
        if old != new:
            raise InputError(
                f"{wanted.folder} was made with another {_differing(name, old, new)}: choose "
                "another out=, or delete it"
            )
    if len(found) > wanted.num_pairs:
        raise InputError(
            f"{wanted.folder} holds {len(found)} pairs already, more than num_pairs="
            f"{wanted.num_pairs}: choose another out="
        )
    resumed = PairFolder(**{**vars(wanted), "counts": found.counts}).sound()
    if resumed != found:
        resumed.write(atomic)
    return resumed


def _differing(name: str, old: Any, new: Any) -> str:
    """Return the name of what differs, of settings the first of them."""
    if name != "settings":
        return name
    return next(key for key in {**old, **new} if old.get(key) != new.get(key))
