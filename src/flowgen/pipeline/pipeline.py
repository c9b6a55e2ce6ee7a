"""A pipeline samples: it integrates its field from noise at 0 to 1 and decodes the end.

It goes the same way back, and so knows the density of data. Each sample has its own random
stream, derived from the seed and its number, so a sample does not depend on how many are drawn with
it or on the chunk size.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgen.core import Condition, InputError, in_chunks
from flowgen.integrators import Counted, Divergence, Noise, Sampler
from flowgen.pipeline.eval_mode import eval_mode
from flowgen.pipeline.parts import Asked, Labels, Parts
from flowgen.pipeline.score import check_sampler


class Pipeline(Parts):
    """A trained (or training) model together with all that is needed to sample from it.

    Args:
        field: The network with its path and prediction: a velocity field.
        source: Distribution of ``x_0``.
        sampler: Stepper, time grid and number of steps.
        codec: Map between data space and model space.
        conditioner: Makes conditions of labels, captions and prompts; None for an unconditional
            model.
    """

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
