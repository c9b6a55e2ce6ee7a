"""Samples to their noise, and on from noise that is given instead of drawn."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgen.core import Condition, in_chunks
from flowgen.integrators import Noise
from flowgen.pipeline.editing.conditions import after, before, part
from flowgen.pipeline.eval_mode import eval_mode
from flowgen.pipeline.pipeline import Pipeline
from flowgen.pipeline.score import check_sampler


@torch.no_grad()
def inverted(
    pipeline: Pipeline, x: Tensor, *, was: Condition | None = None, chunk: int = 64
) -> Tensor:
    """Return the source points that flow to samples, without guidance: the ODE backwards.

    Args:
        pipeline: With the sampler to use, of an ODE.
        x: Samples in data space ``(n, *d)``.
        was: Conditions that describe them, as ``conditioner.take(batch)`` makes them; None for
            "none" of a conditional model.
        chunk: Samples at once; halved with a warning where memory runs out.

    Returns:
        Source points ``(n, *d)`` in model space, on the CPU: what ``pipeline.noise`` draws.

    Raises:
        InputError: If the sampler draws noise or does not begin at the source.
    """
    known = before(pipeline, len(x), was)
    z = pipeline.codec.encode(x.to(pipeline.device))
    with eval_mode(pipeline.field):

        def work(places: Sequence[int]) -> Tensor:
            rows = slice(places[0], places[-1] + 1)
            x_0 = pipeline.sampler.encode(pipeline.field, z[rows], part(known, rows))
            return (x_0 / pipeline.initial_scale).cpu()

        return torch.cat(list(in_chunks(work, len(z), chunk)))


@torch.no_grad()
def from_noise(
    pipeline: Pipeline,
    noise: Tensor,
    *,
    was: Condition | None = None,
    asked: Mapping[str, Any] | None = None,
    numbers: range | None = None,
    seed: int = 0,
    chunk: int = 256,
) -> Iterator[Tensor]:
    """Yield the samples that source points flow to, chunk by chunk.

    Args:
        pipeline: With the sampler and the guidance to use.
        noise: Source points ``(n, *d)`` in model space, e.g. of :func:`inverted`.
        was: Conditions of the samples, None for "none" of a conditional model.
        asked: What results are asked for instead, by name, each an entry or a list that is repeated
            in order.
        numbers: Consecutive rows of ``noise`` to yield samples of; None for all.
        seed: Of what a stochastic sampler draws on the way.
        chunk: Samples at once; halved with a warning where memory runs out.

    Raises:
        InputError: If the sampler or a condition does not fit the model.
    """
    check_sampler(pipeline.sampler, pipeline.source, pipeline.about, pipeline.field)
    wanted = after(pipeline, len(noise), before(pipeline, len(noise), was), asked or {})
    start, field = noise.to(pipeline.device) * pipeline.initial_scale, pipeline.velocity()
    numbers = range(len(noise)) if numbers is None else numbers
    with eval_mode(pipeline.field):

        def work(places: Sequence[int]) -> Tensor:
            rows = slice(numbers.start + places[0], numbers.start + places[-1] + 1)
            drawn = Noise(seed, range(rows.start, rows.stop))
            on_the_way = drawn if pipeline.sampler.stochastic else None
            x_1 = pipeline.sampler.sample(field, start[rows], part(wanted, rows), noise=on_the_way)
            return pipeline.codec.decode(x_1).cpu()

        yield from in_chunks(work, len(numbers), chunk)
