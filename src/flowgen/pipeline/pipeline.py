"""A pipeline holds everything that sampling needs: field, source, sampler, conditioner, codec.

Sampling draws ``x_0`` from the source, integrates ``dx/dt = v(x, t)`` from 0 to 1 and decodes the
end point into data space. Each sample has its own random stream, derived from the seed and its
number, so a sample does not depend on how many are drawn with it or on the chunk size.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from flowgen.core import (
    Condition,
    InputError,
    Source,
    VelocityField,
    generator_for,
    in_chunks,
    per_sample,
)
from flowgen.data import Codec, DataSource
from flowgen.integrators import Counted, Divergence, Noise, Sampler
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

CONVENTIONS = {
    "time": "0 is the source, 1 is data",
    "velocity": "d x_t / d t along x_t = alpha x_1 + sigma x_0",
    "guidance": "v_null + scale (v_cond - v_null); scale 1 is off",
}
"""Stated in every checkpoint, so that no reader has to guess."""


class Pipeline(nn.Module):
    """A trained (or training) model together with all that is needed to sample from it.

    Args:
        field: The network with its path and prediction: a velocity field.
        source: Distribution of ``x_0``.
        sampler: Stepper, time grid and number of steps.
        codec: Map between data space and model space.
        conditioner: Makes conditions of labels, captions and prompts; None for an unconditional
            model.
    """

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

    def guided(self, guidance: float | Guidance) -> "Pipeline":
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

    def with_sampler(self, sampler: Sampler) -> "Pipeline":
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

    def in_bfloat16(self) -> "Pipeline":
        """Return the same pipeline whose network computes in bfloat16; the weights are shared.

        Faster where the hardware has units for it. States, times and the sums of the integrator
        keep their precision, and so do the stored weights; a sample moves by about a thousandth.
        """
        field = copy.copy(self.field)
        field.in_bfloat16 = True
        return self._with(field=field)

    def with_field(self, field: nn.Module) -> "Pipeline":
        """Return the same pipeline around another field, e.g. averaged weights.

        Around a field of another kind it does not describe itself any more and cannot be saved.
        """
        config = self.config if type(field) is type(self.field) else {}
        return self._with(field=field, config=config)

    def with_source(self, source: Source) -> "Pipeline":
        """Return the same pipeline that starts from another source, e.g. given images.

        It does not describe itself any more, so that it cannot be saved.

        Raises:
            InputError: If the sampler needs another source.
        """
        check_sampler(self.sampler, source, self.about, self.field)
        return self._with(source=source, config={})

    def starting_from(self, x: Tensor) -> "Pipeline":
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

    def sample(
        self,
        num_samples: int,
        *,
        label: Labels = None,
        cond: Asked = None,
        seed: int = 0,
        chunk: int = 256,
        decode: bool = True,
        first: int = 0,
    ) -> Tensor:
        """Return samples of the model.

        Args:
            num_samples: How many, at least 1.
            label: One label for all, or a list that is repeated in order; None takes every class
                in turn. Only for conditional models.
            cond: What is asked for beside the label, by name, in the same way:
                ``{"prompt": "red heart"}``. Of several conditions, those left out are empty.
            seed: Same seed, same samples, whatever ``chunk`` is.
            chunk: How many are integrated at once; halved with a warning where memory runs out.
            decode: Return data space (images: uint8 ``(n, c, h, w)``); else model space.
            first: Number of the first sample: a large set can be drawn in parts, by several
                processes, and labels that take turns go on where they were.

        Returns:
            Samples ``(num_samples, *d)`` on the CPU.

        Raises:
            InputError: If a number or a label is out of range, or labels meet an unconditional
                model.
        """
        return torch.cat(
            list(
                self.stream(
                    num_samples,
                    label=label,
                    cond=cond,
                    seed=seed,
                    chunk=chunk,
                    decode=decode,
                    first=first,
                ),
            )
        )

    @torch.no_grad()
    def stream(
        self,
        num_samples: int,
        *,
        label: Labels = None,
        cond: Asked = None,
        seed: int = 0,
        chunk: int = 256,
        decode: bool = True,
        first: int = 0,
    ) -> Iterator[Tensor]:
        """Yield the samples of :meth:`sample` chunk by chunk, each on the CPU."""
        if num_samples < 1:
            raise InputError(f"num_samples must be >= 1, got {num_samples}")
        if first < 0:
            raise InputError(f"first must be >= 0, got {first}")
        asked = self.asked(first + num_samples, label, cond)
        yield from self.drawn(
            range(first, first + num_samples), asked, seed=seed, chunk=chunk, decode=decode
        )

    @torch.no_grad()
    def drawn(
        self,
        numbers: range,
        asked: Mapping[str, Any],
        *,
        seed: int = 0,
        chunk: int = 256,
        decode: bool = True,
    ) -> Iterator[Tensor]:
        """Yield samples by their global numbers chunk by chunk, see :meth:`sample`.

        Args:
            numbers: Consecutive ones, one at least.
            asked: As :meth:`asked` returns it for all samples that these are a part of.
            seed: Of the noise.
            chunk: How many are integrated at once.
            decode: Return data space; else model space.

        Raises:
            InputError: If ``chunk`` is below 1, or the sampler needs a score that is not known.
        """
        if chunk < 1:
            raise InputError(f"chunk must be >= 1, got {chunk}")
        check_sampler(self.sampler, self.source, self.about, self.field)
        field, first = self.velocity(), numbers.start
        with eval_mode(self.field):

            def draw(places: Sequence[int]) -> Tensor:
                numbers = range(first + places[0], first + places[-1] + 1)
                x_0 = self.noise(seed, numbers) * self.initial_scale
                noise = Noise(seed, numbers) if self.sampler.stochastic else None
                x_1 = self.sampler.sample(field, x_0, self.conditions(numbers, asked), noise=noise)
                return (self.codec.decode(x_1) if decode else x_1).cpu()

            yield from in_chunks(draw, len(numbers), chunk)

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

    @torch.no_grad()
    def encode(self, x: Tensor, *, label: Labels = None, cond: Condition | None = None) -> Tensor:
        """Return the source points that flow to ``x``: the ODE integrated from data to source.

        Args:
            x: Samples in data space, ``(n, *d)``.
            label: Their labels, for a conditional model.
            cond: In place of labels, their conditions, as ``conditioner.take(batch)`` makes them.

        Returns:
            Source points ``(n, *d)`` in model space, on the CPU.
        """
        own = self._own(len(x), label, cond, "to encode")
        x_1 = self.codec.encode(x.to(self.device))
        with eval_mode(self.field):
            x_0 = self.sampler.encode(self.velocity(), x_1, own)
        return (x_0 / self.initial_scale).cpu()

    @torch.no_grad()
    def log_likelihood(
        self,
        x: Tensor,
        *,
        label: Labels = None,
        cond: Condition | None = None,
        divergence: Divergence | None = None,
        sampler: Sampler | None = None,
        seed: int = 0,
        chunk: int = 64,
        first: int = 0,
    ) -> Tensor:
        """Return the log density of samples under the flow, guided where that is set.

        Args:
            x: Samples in data space ``(n, *d)``. To uint8 images uniform noise of the width of one
                grey level is added; their density is in units of one level.
            label: Their labels, for a conditional model.
            cond: In place of labels, their conditions, as ``conditioner.take(batch)`` makes them.
            divergence: ``flowgen.integrators.Hutchinson()`` for large samples; None is exact.
            sampler: Of an ODE in general form; None takes dopri5 with tolerances of 1e-5.
            seed: Of random probes and of dequantisation.
            chunk: How many are integrated at once; halved with a warning where memory runs out.
            first: Number of the first sample, which its random numbers depend on.

        Returns:
            Nats ``(n,)``, on the CPU. Bits per dimension are ``-nats / (log(2) * x[0].numel())``.

        Raises:
            InputError: If source or codec have no density, or labels do not fit.
        """
        from flowgen.pipeline.likelihood import log_density

        own = self._own(len(x), label, cond, "for likelihoods")
        with eval_mode(self.field):

            def work(places: Sequence[int]) -> Tensor:
                rows = slice(places[0], places[-1] + 1)
                few = None if own is None else {name: value[rows] for name, value in own.items()}
                numbers = range(first + rows.start, first + rows.stop)
                return log_density(
                    self, x[rows], few, numbers, divergence=divergence, sampler=sampler, seed=seed
                )

            return torch.cat(list(in_chunks(work, len(x), chunk)))

    def nfe(self) -> int:
        """Return how many evaluations of the field one trajectory takes with fixed steps.

        Adaptive samplers decide while running; for them this measures one trajectory of seed 0.
        """
        counted = Counted(self.field)
        with torch.no_grad(), eval_mode(self.field):
            noise = Noise(0, range(1)) if self.sampler.stochastic else None
            field, x_0 = self._guided(counted), self.noise(0, range(1))
            self.sampler.sample(field, x_0, self.conditions(range(1)), noise=noise)
        return counted.nfe

    def _guided(self, field: VelocityField) -> VelocityField:
        if self.guidance is None:
            return field
        null = None if self.conditioner is None else self.conditioner.null
        return self.guidance(field, null)

    def _own(
        self, n: int, label: Labels, cond: Condition | None, purpose: str
    ) -> dict[str, Tensor] | None:
        """Return the conditions of given samples."""
        if self.conditioner is None:
            self.asked(n, label)
            return None
        if cond is not None:
            return {name: value.to(self.device) for name, value in cond.items()}
        if label is None:
            raise InputError(f"a conditional model needs label= {purpose}")
        return self.conditions(range(n), self.asked(n, label))

    def _with(self, **changes: Any) -> "Pipeline":
        other = copy.copy(self)
        other._modules = dict(self._modules)
        for name, value in changes.items():
            setattr(other, name, value)
        return other


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Switch a module to evaluation and back, whatever happens between."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def _plain(guidance: Guidance) -> TypeGuard[ClassifierFree]:
    """Return whether guidance is a scale and nothing else."""
    return isinstance(guidance, ClassifierFree) and guidance == ClassifierFree(guidance.scale)


def _told(guidance: Guidance) -> str:
    return f"guidance.scale={guidance.scale}" if _plain(guidance) else f"guidance={guidance!r}"


def describe(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says about itself beside its weights and config."""
    from flowgen import __version__

    return {"version": __version__, "conventions": dict(CONVENTIONS), **about}
