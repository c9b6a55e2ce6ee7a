"""Operations without a rule of ours, by torch's own forward mode."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from flowgen.distill.forward_mode.dual import (
    Dual,
    Function,
    UnsupportedError,
    held,
    primal_of,
    recording,
)

_IN_PLACE = {
    *("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"),
    *("__iand__", "__ior__", "__ixor__", "__imod__", "__ifloordiv__"),
}


def by_torch(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow an operation that has no rule here by torch's forward mode."""
    name = getattr(func, "__name__", "")
    if name in _IN_PLACE or (name.endswith("_") and not name.endswith("__")):
        raise UnsupportedError(name)
    if kwargs.get("inplace") or kwargs.get("out") is not None:
        raise UnsupportedError(name)
    out = tree_map(primal_of, func(*tree_map(primal_of, args), **tree_map(primal_of, kwargs)))
    leaves, spec = tree_flatten(out)
    floating = [isinstance(x, Tensor) and x.is_floating_point() for x in leaves]
    if not any(floating):
        return out
    given, given_spec = tree_flatten((tuple(args), kwargs))
    places = [i for i, value in enumerate(given) if isinstance(value, Dual)]
    graph = any(given[i].graph for i in places)
    fixed = [held(value, graph) for value in given]

    def of_duals(*values: Tensor) -> tuple[Tensor, ...]:
        full = list(fixed)
        for place, value in zip(places, values, strict=True):
            full[place] = value
        inner, named = tree_unflatten(full, given_spec)
        found = tree_flatten(func(*inner, **named))[0]
        return tuple(x for x, is_floating in zip(found, floating, strict=True) if is_floating)

    with recording(graph):
        tangents = torch.func.jvp(
            of_duals,
            tuple(fixed[i] for i in places),
            tuple(given[i].tangent for i in places),
        )[1]
    remaining = iter(tangents)
    pairs = [
        Dual.of(x, next(remaining), graph) if is_floating else x
        for x, is_floating in zip(leaves, floating, strict=True)
    ]
    return tree_unflatten(pairs, spec)


def by_torch_alone(
    function: Function, primals: Sequence[Tensor], tangents: Sequence[Tensor], graph: bool
) -> tuple[Tensor, Tensor]:
    """Return value and derivative of the whole function by torch's forward mode."""
    if graph:
        value, tangent, *_ = torch.func.jvp(function, tuple(primals), tuple(tangents))
        return value, tangent
    with torch.no_grad():
        tangent = torch.func.jvp(function, tuple(primals), tuple(tangents))[1]
    return function(*primals), tangent
