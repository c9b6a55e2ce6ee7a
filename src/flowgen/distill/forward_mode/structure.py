"""Rules of what moves numbers and does not change them, and of sums."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from flowgen.distill.forward_mode.by_torch import by_torch
from flowgen.distill.forward_mode.dual import Dual, graph_of, paired, primal_of, recording


def told(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Answer a question about shape, type or place."""
    return func(*args, **kwargs)


def structural(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An operation that is linear in all its tensors together, without a constant."""
    graph = graph_of(args)

    def tangent(value: Any) -> Any:
        if isinstance(value, Dual):
            return value.tangent
        return torch.zeros_like(value) if isinstance(value, Tensor) else value

    out = func(*tree_map(primal_of, args), **kwargs)
    with recording(graph):
        moved = func(*_shallow(tangent, args), **kwargs)
    return paired(out, moved, graph)


def _shallow(function: Callable[[Any], Any], args: Sequence[Any]) -> list[Any]:
    """Apply to arguments and to the entries of lists among them."""
    return [
        type(value)([function(entry) for entry in value])
        if type(value) in (list, tuple)
        else function(value)
        for value in args
    ]


def rearranged(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An operation that is linear in its first tensor; the others (indices) are no tangents."""
    x = args[0]
    if not isinstance(x, Dual) or any(isinstance(value, Dual) for value in args[1:]):
        return by_torch(func, args, kwargs)
    out = func(x.primal, *args[1:], **kwargs)
    if isinstance(out, Tensor) and not out.is_floating_point():
        return out
    with recording(x.graph):
        moved = func(x.tangent, *args[1:], **kwargs)
    return paired(out, moved, x.graph)
