"""What all objectives ask of a student and of a batch of intervals."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from flowgen.core import Condition, FlowMap, InputError, Pair, VelocityField, check_values
from flowgen.distill.intervals import Intervals, IntervalSampler
from flowgen.distill.triples import Triples, TripleSampler
from flowgen.objectives.flow_matching import common_domain
from flowgen.paths import Path

_ROUNDED = 1e-6
"""By which times in order may be out of it."""

_MOST_CLASSES = 2**20
"""More than a condition has; three of them fit into 64 bits, and more may at worst collide."""


def flow_map(model: VelocityField, *, anywhere: bool = False) -> FlowMap:
    """Return the model as the flow map it is.

    Args:
        model: What is trained.
        anywhere: Whether it must lead to any time.

    Raises:
        InputError: If it is a mere velocity, or leads to fixed times only.
    """
    if not isinstance(model, FlowMap):
        raise InputError(
            f"this objective trains a flow map, and {type(model).__name__} is a velocity alone: "
            "choose the whole method by distill=<name>"
        )
    if anywhere and model.edges is not None:
        raise InputError(
            f"this objective trains a map that leads to any time, and {type(model).__name__} leads "
            f"to {', '.join(f'{edge:g}' for edge in model.edges[1:])} alone"
        )
    return model


def draw_intervals(
    sampler: IntervalSampler,
    path: Path,
    model: VelocityField,
    pair: Pair,
    generator: torch.Generator | None,
) -> Intervals:
    """Return an interval for each pair, inside what path and model know, in the pairs' precision.

    Raises:
        InputError: If path and model share no time, or the segments are not the model's.
    """
    edges, own = getattr(sampler, "edges", None), getattr(model, "edges", None)
    if own is not None and edges != own:
        raise InputError(f"the student leads to the edges {own}, and is trained on {edges}")
    low, high = common_domain(path, model)
    found = sampler(len(pair), generator=generator, device=pair.x_1.device)
    dtype = torch.promote_types(found.s.dtype, pair.x_1.dtype)
    s, t = (time.to(dtype).clamp(low, high) for time in (found.s, found.t))
    return Intervals(s, t, found.apart)


def draw_triples(
    sampler: TripleSampler,
    progress: float,
    path: Path,
    model: VelocityField,
    pair: Pair,
    generator: torch.Generator | None,
) -> Triples:
    """Return a triple for each pair, as :func:`draw_intervals` returns intervals.

    Raises:
        InputError: If path and model share no time, or the segments are not the model's.
        ValueError: If the times are not in order and values are checked.
    """
    edges, own = getattr(sampler, "edges", None), getattr(model, "edges", None)
    if own is not None and edges != own:
        raise InputError(f"the student leads to the edges {own}, and is trained on {edges}")
    low, high = common_domain(path, model)
    found = sampler(len(pair), progress, generator=generator, device=pair.x_1.device)
    dtype = torch.promote_types(found.s.dtype, pair.x_1.dtype)
    s, r, t = (time.to(dtype).clamp(low, high) for time in (found.s, found.r, found.t))
    check_values("the first part r - s of an interval", r - s, low=-_ROUNDED)
    check_values("the last part t - r of an interval", t - r, low=-_ROUNDED)
    return Triples(s, r, t, found.apart)


def rows(cond: Condition | None, part: slice | Tensor) -> Condition | None:
    """Return the conditions of a part of the rows: a slice, or their numbers."""
    return None if cond is None else {name: value[part] for name, value in cond.items()}


def rows_of(pair: Pair, part: slice | Tensor) -> Pair:
    """Return a part of the rows of a pair; weights and figures stay behind."""
    return Pair(pair.x_0[part], pair.x_1[part], rows(pair.cond, part))


def alike(cond: Condition | None, size: int, device: torch.device) -> Tensor:
    """Return a number for each row, int64 ``(size,)``: equal where all conditions are equal.

    Classes are numbered without a look at their values; texts are compared, for which an
    accelerator is waited for.
    """
    number = torch.zeros(size, dtype=torch.int64, device=device)
    for value in (cond or {}).values():
        own = value
        if value.ndim > 1 or value.is_floating_point():
            _, own = value.reshape(size, -1).unique(dim=0, return_inverse=True)
        number = number * _MOST_CLASSES + own
    return number


def progress_of(step: int, total_steps: int | None) -> float:
    """Return the share of a run that is over; 1 where its length is not known."""
    return 1.0 if total_steps is None else step / total_steps


@contextmanager
def same_masks(x: Tensor, state: Tensor | None = None) -> Iterator[None]:
    """Draw dropout masks inside and draw the same ones again afterwards.

    Two passes of one network are only compared fairly with the same features dropped (Song and
    Dhariwal 2023, arXiv 2310.14189, section 3.2). Masks are the same for the same rows alone.

    Args:
        x: States, on the device of the network.
        state: Draw inside what was drawn from this :func:`mask_state`, for the second of two
            passes; afterwards goes on as if nothing had been drawn.
    """
    on_cuda = x.device.type == "cuda"
    with torch.random.fork_rng(devices=[x.device] if on_cuda else []):
        if state is not None:
            if on_cuda:
                torch.cuda.set_rng_state(state, x.device)
            else:
                torch.set_rng_state(state)
        yield


def mask_state(x: Tensor) -> Tensor:
    """Return what the next dropout masks on the device of ``x`` follow from; no device is read."""
    return torch.cuda.get_rng_state(x.device) if x.device.type == "cuda" else torch.get_rng_state()
