"""What the measures of one evaluation share: pipeline, data, numbers, and what is worth keeping."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from flowgen.core import InputError, generator_for
from flowgen.data import Batch, DataSet, Split
from flowgen.evaluation.chunks import Chunks
from flowgen.evaluation.shards import Shards
from flowgen.models import CAPTION, PROMPT, LabelConditioner
from flowgen.pipeline import Pipeline

T = TypeVar("T")


@dataclass(frozen=True)
class Drawn:
    """Samples with consecutive numbers.

    Args:
        numbers: Their numbers.
        samples: In data space ``(n, *d)``, on the CPU.
        labels: What they were drawn with ``(n,)``, or None.
        memory: What several measures make of them, e.g. features.
    """

    numbers: range
    samples: Tensor
    labels: Tensor | None
    memory: dict[Any, Any] = field(default_factory=dict, repr=False)

    def remembered(self, key: Any, make: Callable[[], T]) -> T:
        """Return what ``make`` makes, made once for each ``key``."""
        return _remembered(self.memory, key, make)


@dataclass(frozen=True)
class Setting:
    """One evaluation: what is measured, against what, how much and by whom.

    Args:
        pipeline: What is evaluated.
        data: What it is compared with.
        num_samples: Samples to draw, >= 2.
        seed: Of the samples, and of random choices of a measure, >= 0.
        chunk: Samples integrated at once, >= 1; fewer where the memory does not suffice.
        shards: The processes that share the work.
        memory: What does not depend on the pipeline, computed once; shared by settings made of
            each other.

    Raises:
        InputError: If a number is too small or there is no data to compare with.
    """

    pipeline: Pipeline
    data: DataSet
    num_samples: int = 2000
    seed: int = 0
    chunk: int | Chunks = 256
    shards: Shards = field(default_factory=Shards)
    memory: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the numbers before anything is drawn."""
        for name, least in (("num_samples", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if len(self.data.test) < 2:
            raise InputError(f"{self.data.name} holds out less than 2 samples: nothing to compare")
        if isinstance(self.chunk, int):
            object.__setattr__(self, "chunk", Chunks(self.chunk))

    @property
    def chunks(self) -> Chunks:
        """The size of chunks, which all settings made of this one share."""
        assert isinstance(self.chunk, Chunks)
        return self.chunk

    @property
    def images(self) -> bool:
        """Whether the data are images as stored: uint8 ``(c, h, w)``."""
        sample = self.data.test.__getitems__([0])["x_1"]
        return sample.dtype == torch.uint8 and sample.ndim == 4

    @property
    def asked(self) -> dict[str, Any]:
        """Conditions of the samples: those of held-out rows, or every class in turn.

        Classes are equally frequent on both sides, captions are not alone: they go together with
        the other conditions of their row.
        """
        conditioner = self.pipeline.conditioner
        if conditioner is None or isinstance(conditioner, LabelConditioner):
            return {}
        return self.remembered(("asked", conditioner.kinds), self._asked)

    def _asked(self) -> dict[str, Any]:
        count = min(len(self.data.test), self.num_samples)
        order = torch.randperm(len(self.data.test), generator=generator_for(self.seed, count))
        batch = self.data.test.__getitems__(order[:count].tolist())
        found: dict[str, Any] = {}
        for kind in getattr(self.pipeline.conditioner, "kinds", ()):
            if kind == PROMPT:
                captions = getattr(self.data, "captions", ())
                found[kind] = [captions[i] for i in batch[CAPTION].tolist()]
            else:
                found[kind] = batch[kind].tolist()
        return found

    def conditions_of(self, batch: Batch) -> dict[str, Tensor]:
        """Return the conditions of real rows; none for an unconditional model."""
        conditioner = self.pipeline.conditioner
        if conditioner is None:
            return {}
        conditioner.use(getattr(self.data, "captions", None))
        return conditioner.take(batch)

    @property
    def labelled(self) -> bool:
        """Whether the model takes labels and the data have more than one."""
        conditioner = self.pipeline.conditioner
        takes = conditioner is not None and "label" in conditioner.kinds
        return takes and (self.data.num_classes or 0) > 1

    def of(self, pipeline: Pipeline) -> "Setting":
        """Return the same setting for another pipeline, remembering the same."""
        return replace(self, pipeline=pipeline)

    def draw(self) -> Iterator[Drawn]:
        """Yield this process's share of the samples, in order."""
        share = self.shards.share(self.num_samples)
        labels = self.pipeline.labels(self.num_samples, cond=self.asked)
        if not share:
            return
        start = share.start
        for samples in self.pipeline.drawn(
            share, self.asked, seed=self.seed, chunk=self.chunks.size
        ):
            numbers = range(start, start + len(samples))
            own = None if labels is None else labels[numbers.start : numbers.stop]
            yield Drawn(numbers, samples, own)
            start = numbers.stop

    def real(self, split: Split, most: int) -> Batch:
        """Return up to ``most`` rows of a split, drawn without repetition; always the same ones."""
        order = torch.randperm(len(split), generator=generator_for(self.seed, len(split)))
        restart = getattr(split, "seed_augmentation", None)
        if restart is not None:
            restart(self.seed)
        return split.__getitems__(order[:most].sort().values.tolist())

    def remembered(self, key: Any, make: Callable[[], T]) -> T:
        """Return what ``make`` makes, made once for each ``key``."""
        return _remembered(self.memory, key, make)


def _remembered(memory: dict[Any, Any], key: Any, make: Callable[[], T]) -> T:
    if key not in memory:
        memory[key] = make()
    return memory[key]
