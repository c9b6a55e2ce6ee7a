"""Samples of data space, edited by a pipeline."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgen.core import Condition, InputError, in_chunks
from flowgen.pipeline.editing.conditions import after, before, part
from flowgen.pipeline.editing.scene import Edit, Scene, on_linear_path
from flowgen.pipeline.eval_mode import eval_mode
from flowgen.pipeline.pipeline import Pipeline


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
        Samples ``(n, *d)`` of data space, on the CPU; of an interpolation, see there.

    Raises:
        InputError: If the sampler draws noise, the path is not affine, conditions do not fit, or
            the edit takes samples in groups that these do not fill.
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
    group = getattr(edit, "group", 1)
    if len(x) % group:
        raise InputError(f"this edit takes samples by {group}, and there are {len(x)}")
    known = before(pipeline, len(x), was)
    wanted = after(pipeline, len(x), known, asked or {})
    plain = on_linear_path(pipeline.field)
    guided = pipeline.with_field(plain).velocity()  # pyright: ignore[reportArgumentType]
    with eval_mode(pipeline.field):

        def work(places: Sequence[int]) -> Tensor:
            rows = slice(group * places[0], group * (places[-1] + 1))
            scene = Scene(
                plain,
                guided,
                sampler,
                part(known, rows),
                part(wanted, rows),
                pipeline.noise(seed, range(rows.start, rows.stop)).to(z),
                None if mask is None else _rows(mask.to(z.device), rows, len(x)),
            )
            return pipeline.codec.decode(edit(scene, z[rows])).cpu()

        return torch.cat(list(in_chunks(work, len(x) // group, max(1, chunk // group))))


def _rows(mask: Tensor, rows: slice, n: int) -> Tensor:
    return mask.expand(n, *mask.shape[1:])[rows]
