"""What a pipeline is made of, what a sample is given, and the same pipeline with another part.

A sample has its own noise and its own conditions, by its number. Every change returns a new
pipeline that shares the weights, so that several samplers or scales of guidance can stand beside
each other.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from flowgen.core import InputError, Source, VelocityField, generator_for, per_sample
from flowgen.data import Codec, DataSource
from flowgen.integrators import Sampler
from flowgen.models import (
    ClassifierFree,
    Conditioner,
    Guidance,
    PredictionField,
    ScaleConditioner,
    asked_for,
)
from flowgen.pipeline.score import check_sampler
from flowgen.pipeline.source_data import opened

Labels = int | str | Sequence[int | str] | Tensor | None
Asked = Mapping[str, Labels] | None
"""Conditions that samples are asked for, by name: ``{"prompt": ["red heart"], "style": 1}``."""

P = TypeVar("P", bound="Parts")


class Parts(nn.Module):
    """Field, source, sampler, codec, conditioner and guidance: see :class:`Pipeline`."""

    def __init__(
        self,
        field: PredictionField,
        source: Source,
        sampler: Sampler,
        codec: Codec,
        conditioner: Conditioner | None = None,
    ) -> None:
        super().__init__()
        self.field = field
        self.source = source
        self.sampler = sampler
        self.codec = codec
        self.conditioner = conditioner
        self.guidance: Guidance | None = None
        self.config: dict[str, Any] = {}
        self.about: dict[str, Any] = {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.field.parameters()).device

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample in model space."""
        if isinstance(self.source, DataSource):
            return self.source.shape
        return tuple(self.source.sample(1, generator=generator_for(0)).shape[1:])

    @property
    def initial_scale(self) -> float:
        """What ``x_0`` is multiplied by to start from: ``sigma`` where the field begins."""
        return getattr(self.field, "initial_scale", 1.0)

    def guided(self: P, guidance: float | Guidance) -> P:
        """Return the same pipeline, guided.

        A student that is told its scale has the guidance that it learnt, of this scale, and is
        evaluated once.

        Args:
            guidance: A rule of ``flowgen.models``, or the scale of :class:`ClassifierFree` (1 is
                off).

        Raises:
            InputError: If the rule needs the empty condition and the model is unconditional, or
                never saw it in training; or if a student was not trained for the scale.
        """
        if isinstance(guidance, int | float):
            guidance = ClassifierFree(float(guidance))
        if isinstance(self.conditioner, ScaleConditioner):
            if not _plain(guidance):
                raise InputError(
                    f"{_told(guidance)}: this student has its guidance built in, and only "
                    "guidance.scale can be chosen"
                )
            return self._with(conditioner=self.conditioner.at(guidance.scale))
        if guidance.uses_null and self.conditioner is None:
            raise InputError(
                f"{_told(guidance)} needs a label-conditional or text-conditional model; this one "
                "is unconditional"
            )
        if guidance.uses_null and self.conditioner is not None and self.conditioner.dropout == 0:
            raise InputError(
                f"{_told(guidance)} needs a model trained with label_dropout > 0; this "
                "one never saw the null label or an empty text"
            )
        return self._with(guidance=guidance)

    def with_sampler(self: P, sampler: Sampler) -> P:
        """Return the same pipeline with another sampler; the weights are shared.

        It does not describe itself any more, so that it cannot be saved.

        Raises:
            InputError: If the sampler is stochastic and the model's score is not known, or its
                start does not fit the model.
        """
        check_sampler(sampler, self.source, self.about, self.field)
        if sampler.start is not None:
            sampler.start(self.noise(0, range(1)), self.conditions(range(1)))
        return self._with(sampler=sampler, config={})

    def in_bfloat16(self: P) -> P:
        """Return the same pipeline whose network computes in bfloat16; the weights are shared.

        Faster where the hardware has units for it. States, times and the sums of the integrator
        keep their precision, and so do the stored weights; a sample moves by about a thousandth.
        """
        field = copy.copy(self.field)
        field.in_bfloat16 = True
        return self._with(field=field)

    def with_field(self: P, field: nn.Module) -> P:
        """Return the same pipeline around another field, e.g. averaged weights.

        Around a field of another kind it does not describe itself any more and cannot be saved.
        """
        config = self.config if type(field) is type(self.field) else {}
        return self._with(field=field, config=config)

    def with_source(self: P, source: Source) -> P:
        """Return the same pipeline that starts from another source, e.g. given images.

        It does not describe itself any more, so that it cannot be saved.

        Raises:
            InputError: If the sampler needs another source.
        """
        check_sampler(self.sampler, source, self.about, self.field)
        return self._with(source=source, config={})

    def starting_from(self: P, x: Tensor) -> P:
        """Return the same pipeline, from data to data, that starts from given samples.

        Args:
            x: As its data are stored, ``(n, *d)``; images uint8.

        Raises:
            InputError: If the model starts from noise, or the samples have another shape.
        """
        if not isinstance(self.source, DataSource):
            raise InputError(
                f"this model starts from {type(self.source).__name__}, not from data: nothing can "
                "be given in its place"
            )
        if x.ndim < 2 or tuple(self.codec.encoded_shape(x.shape[1:])) != self.source.shape:
            raise InputError(
                f"source samples must be seen as {self.source.shape}, got {tuple(x.shape)}"
            )
        return self.with_source(self.source.given(x, self.codec))

    def velocity(self) -> VelocityField:
        """Return the field that is integrated: the model's, guided where that is set."""
        return self._guided(self.field)

    def noise(self, seed: int, numbers: Sequence[int]) -> Tensor:
        """Return the source samples of the given global numbers, on the model's device.

        Of a source of data these are its held-out rows in their order, whatever the seed.

        Raises:
            InputError: If the seed is negative, or a source of data is not to be found.
        """
        if seed < 0:
            raise InputError(f"seed must be >= 0, got {seed}")
        if isinstance(self.source, DataSource):
            source = opened(self.source, self.codec, self.about)
            return source.rows(numbers).float().to(self.device)
        drawn = per_sample(lambda g: self.source.sample(1, generator=g), seed, numbers)
        return drawn.to(self.device)

    def asked(self, num_samples: int, label: Labels = None, cond: Asked = None) -> dict[str, Any]:
        """Return what samples are asked for as lists by name, see :meth:`sample`.

        Raises:
            InputError: If a name or an entry is unknown, there are more entries than samples, or
                anything is asked of an unconditional model.
        """
        wanted = {**(cond or {}), **({} if label is None else {"label": label})}
        if self.conditioner is None:
            if told := {name: value for name, value in wanted.items() if value is not None}:
                name, value = next(iter(told.items()))
                raise InputError(f"{name}={value} was given, but the model is unconditional")
            return {}
        found = asked_for(wanted, self.conditioner.kinds, num_samples)
        # Entries that do not exist are refused before anything is drawn.
        longest = max((len(entries) for entries in found.values()), default=1)
        self.conditioner.rows(found, range(longest))
        return found

    def conditions(
        self, numbers: Sequence[int], asked: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor] | None:
        """Return the conditions of samples, on the model's device; None if it is unconditional.

        Args:
            numbers: Global numbers of the samples.
            asked: As :meth:`asked` returns it; None for what samples take in turn.
        """
        if self.conditioner is None:
            return None
        return self.conditioner.rows(asked or {}, numbers, self.device)

    def labels(self, num_samples: int, label: Labels = None, cond: Asked = None) -> Tensor | None:
        """Return the label of each sample, shape ``(num_samples,)`` on the CPU, None without.

        Raises:
            InputError: If a label is unknown, or labels are given to an unconditional model.
        """
        found = self.conditions(range(num_samples), self.asked(num_samples, label, cond)) or {}
        return found["label"].cpu() if "label" in found else None

    def _guided(self, field: VelocityField) -> VelocityField:
        if self.guidance is None:
            return field
        null = None if self.conditioner is None else self.conditioner.null
        return self.guidance(field, null)

    def _with(self: P, **changes: Any) -> P:
        other = copy.copy(self)
        other._modules = dict(self._modules)
        for name, value in changes.items():
            setattr(other, name, value)
        return other


def _plain(guidance: Guidance) -> TypeGuard[ClassifierFree]:
    """Return whether guidance is a scale and nothing else."""
    return isinstance(guidance, ClassifierFree) and guidance == ClassifierFree(guidance.scale)


def _told(guidance: Guidance) -> str:
    return f"guidance.scale={guidance.scale}" if _plain(guidance) else f"guidance={guidance!r}"
