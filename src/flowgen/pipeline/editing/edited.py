"""Samples of data space, edited by a pipeline."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgen.core import Condition, InputError, in_chunks
from flowgen.models import Conditioners
from flowgen.pipeline.editing.scene import Edit, Scene, on_linear_path
from flowgen.pipeline.pipeline import Pipeline, eval_mode


@torch.no_grad()
def edited(
    pipeline: Pipeline,
    x: Tensor,
    edit: Edit,
    *,
    was: Condition | None = None,
    asked: Mapping[str, Any] | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
    chunk: int = 64,
) -> Tensor:
    """Return samples changed by an edit.

    Args:
        pipeline: With the sampler and the guidance to use.
        x: Samples in data space ``(n, *d)``.
        edit: The method.
        was: Conditions that describe ``x``, as ``conditioner.take(batch)`` makes them; None for
            "none" of a conditional model.
        asked: What results are asked for, by name, each an entry or a list that is repeated in
            order; what is not named stays as it was.
        mask: True where samples are kept, bool ``(1, 1, h, w)`` or ``(n, 1, h, w)``, for edits that
            need it.
        seed: Of fresh noise.
        chunk: Samples at once; halved with a warning where memory runs out.

    Returns:
        Samples ``(n, *d)`` of data space, on the CPU.

    Raises:
        InputError: If the sampler draws noise, the path is not affine, or conditions do not fit.
    """
    sampler = pipeline.sampler
    if sampler.stochastic or sampler.start is not None:
        raise InputError("editing needs an ODE sampler that begins at the source: sampler=heun")
    z = pipeline.codec.encode(x.to(pipeline.device))
    if mask is not None and tuple(mask.shape[-2:]) != tuple(z.shape[-2:]):
        raise InputError(
            f"a mask is of what the model works on, {tuple(z.shape[-2:])}, not "
            f"{tuple(mask.shape[-2:])}: models of latents cannot keep pixels"
        )
    before = _conditions(pipeline, len(x), was)
    after = _wanted(pipeline, len(x), before, asked or {})
    plain = on_linear_path(pipeline.field)
    guided = pipeline.with_field(plain).velocity()  # pyright: ignore[reportArgumentType]
    with eval_mode(pipeline.field):

        def work(places: Sequence[int]) -> Tensor:
            rows = slice(places[0], places[-1] + 1)
            scene = Scene(
                plain,
                guided,
                sampler,
                _part(before, rows),
                _part(after, rows),
                pipeline.noise(seed, range(rows.start, rows.stop)).to(z),
                None if mask is None else _rows(mask.to(z.device), rows, len(x)),
            )
            return pipeline.codec.decode(edit(scene, z[rows])).cpu()

        return torch.cat(list(in_chunks(work, len(x), chunk)))


def _conditions(pipeline: Pipeline, n: int, was: Condition | None) -> dict[str, Tensor] | None:
    if pipeline.conditioner is None:
        return None
    if was is None:
        return pipeline.conditioner.null(n, pipeline.device)
    return {name: value.to(pipeline.device) for name, value in was.items()}


def _wanted(
    pipeline: Pipeline, n: int, before: dict[str, Tensor] | None, asked: Mapping[str, Any]
) -> dict[str, Tensor] | None:
    """Return the conditions before, with what is asked for in their place."""
    given = {name: value for name, value in asked.items() if value is not None}
    found = pipeline.asked(n, cond=given)
    conditioner = pipeline.conditioner
    if conditioner is None or before is None or not given:
        return before
    new = conditioner.rows(found, range(n), pipeline.device)
    after = dict(before)
    for kind in given:
        part = conditioner.parts[kind] if isinstance(conditioner, Conditioners) else conditioner
        after |= {name: new[name] for name in part.null(1)}
    return after


def _part(cond: Mapping[str, Tensor] | None, rows: slice) -> dict[str, Tensor] | None:
    return None if cond is None else {name: value[rows] for name, value in cond.items()}


def _rows(mask: Tensor, rows: slice, n: int) -> Tensor:
    return mask.expand(n, *mask.shape[1:])[rows]
