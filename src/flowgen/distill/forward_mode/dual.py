"""A tensor with its tangent, and what rules of operations on it are made of."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

Function = Callable[..., Tensor]

Rule = Callable[[Any, Sequence[Any], dict[str, Any]], Any]


class UnsupportedError(Exception):
    """An operation that cannot be followed."""


class Dual(Tensor):
    """A tensor with its tangent; operations on it follow the rules."""

    rules: ClassVar[Mapping[Any, Rule]]
    unruled: ClassVar[Rule]

    primal: Tensor
    tangent: Tensor
    graph: bool

    @staticmethod
    def of(primal: Tensor, tangent: Tensor, graph: bool) -> "Dual":
        """Return the dual of a tensor, its tangent brought to its shape and type."""
        if tangent.dtype != primal.dtype:
            tangent = tangent.to(primal.dtype)
        if tangent.shape != primal.shape:
            tangent = tangent.expand(primal.shape)
        found = Tensor._make_subclass(Dual, primal.detach())
        found.primal, found.tangent, found.graph = primal, tangent, graph
        return found

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        with torch._C.DisableTorchFunctionSubclass():
            return cls.rules.get(func, cls.unruled)(func, args, kwargs or {})


def primal_of(value: Any) -> Any:
    """Return the tensor of a dual, and anything else as it is."""
    return value.primal if isinstance(value, Dual) else value


def held(value: Any, graph: bool) -> Any:
    """Return what a tangent is made with: the primal, without graph unless that is wanted."""
    primal = primal_of(value)
    return primal if graph or not isinstance(primal, Tensor) else primal.detach()


def graph_of(args: Sequence[Any]) -> bool:
    """Return whether the tangents among arguments have graphs."""
    return any(value.graph for value in tree_flatten(args)[0] if isinstance(value, Dual))


def recording(graph: bool) -> Any:
    """Return the context that tangents are computed in."""
    return nullcontext() if graph else torch.no_grad()


def paired(primal: Any, tangent: Any, graph: bool) -> Any:
    """Return duals of tensors, or of lists of them."""
    if isinstance(primal, Tensor):
        return Dual.of(primal, tangent, graph)
    pairs = zip(primal, tangent, strict=True)
    return type(primal)([paired(one, its, graph) for one, its in pairs])
