"""Rules of sums, products and functions of each element."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgen.distill.forward_mode.by_torch import by_torch
from flowgen.distill.forward_mode.dual import Dual, Rule, graph_of, held, primal_of, recording


def plus(sign_a: float, sign_b: float) -> Rule:
    """The rule of ``sign_a a + sign_b b``."""

    def rule(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if len(args) != 2 or kwargs:
            return by_torch(func, args, kwargs)
        a, b = args
        graph = graph_of(args)
        out = func(primal_of(a), primal_of(b))
        with recording(graph):
            left = a.tangent if isinstance(a, Dual) else None
            right = b.tangent if isinstance(b, Dual) else None
            if right is None:
                moved = left if sign_a > 0 else left.neg()  # pyright: ignore[reportOptionalMemberAccess]
            elif left is None:
                moved = right if sign_b > 0 else right.neg()
            else:
                moved = func(left, right)
        return Dual.of(out, moved, graph)  # pyright: ignore[reportArgumentType]

    return rule


def product(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A product of two factors, of any kind that is linear in both."""
    if len(args) != 2 or kwargs:
        return by_torch(func, args, kwargs)
    a, b = args
    graph = graph_of(args)
    out = func(primal_of(a), primal_of(b))
    with recording(graph):
        moved = None
        if isinstance(a, Dual):
            moved = func(a.tangent, held(b, graph))
        if isinstance(b, Dual):
            other = func(held(a, graph), b.tangent)
            moved = other if moved is None else moved + other
    return Dual.of(out, moved, graph)  # pyright: ignore[reportArgumentType]


def quotient(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow ``a / b``: ``(da - (a / b) db) / b``."""
    if len(args) != 2 or kwargs:
        return by_torch(func, args, kwargs)
    a, b = reversed(args) if func is Tensor.__rtruediv__ else args
    graph = graph_of(args)
    out = func(*map(primal_of, args))
    with recording(graph):
        below = held(b, graph)
        moved = a.tangent / below if isinstance(a, Dual) else None
        if isinstance(b, Dual):
            other = -(out if graph else out.detach()) * b.tangent / below
            moved = other if moved is None else moved + other
    return Dual.of(out, moved, graph)  # pyright: ignore[reportArgumentType]


def addcmul(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow ``base + a b``."""
    if len(args) != 3 or kwargs:
        return by_torch(func, args, kwargs)
    base, a, b = args
    graph = graph_of(args)
    out = func(*map(primal_of, args))
    with recording(graph):
        moved = base.tangent if isinstance(base, Dual) else None
        for tangent, other in ((a, b), (b, a)):
            if isinstance(tangent, Dual):
                part = tangent.tangent * held(other, graph)
                moved = part if moved is None else moved + part
    return Dual.of(out, moved, graph)  # pyright: ignore[reportArgumentType]


def elementwise(times_slope: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Rule:
    """The rule of a function of each element.

    Args:
        times_slope: From tangent, input and output to the tangent of the output.
    """

    def rule(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        x = args[0]
        if len(args) != 1 or kwargs.pop("inplace", False) or kwargs:
            return by_torch(func, args, kwargs)
        out = func(x.primal)
        with recording(x.graph):
            moved = times_slope(x.tangent, held(x, x.graph), out if x.graph else out.detach())
        return Dual.of(out, moved, x.graph)

    return rule


def silu(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow ``x sigmoid(x)``."""
    x, *rest = args
    if rest or kwargs.pop("inplace", False) or kwargs:
        return by_torch(func, args, kwargs)
    out = func(x.primal)
    if not x.graph:
        with torch.no_grad():
            return Dual.of(out, torch.ops.aten.silu_backward(x.tangent, x.primal.detach()), False)
    # The kernel has no derivative of its own.
    gate = x.primal.sigmoid()
    return Dual.of(out, x.tangent * gate * (1 + x.primal * (1 - gate)), True)


def gelu(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow either form of GELU."""
    x = args[0]
    out = func(x.primal, *args[1:], **kwargs)
    with recording(x.graph):
        moved = torch.ops.aten.gelu_backward(x.tangent, held(x, x.graph), **kwargs)
    return Dual.of(out, moved, x.graph)


def clamp(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow a clamp to fixed bounds: nothing moves outside of them."""
    x, *rest = args
    bounds = [*rest, *kwargs.values()]
    if not isinstance(x, Dual) or any(isinstance(bound, Tensor) for bound in bounds):
        return by_torch(func, args, kwargs)
    out = func(x.primal, *rest, **kwargs)
    with recording(x.graph):
        inside = out.detach() == x.primal.detach()
        moved = x.tangent * inside
    return Dual.of(out, moved, x.graph)


def where(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow a choice between two tensors."""
    if len(args) != 3 or kwargs or isinstance(args[0], Dual):
        return by_torch(func, args, kwargs)
    chosen, a, b = args
    graph = graph_of(args)
    out = func(chosen, primal_of(a), primal_of(b))
    with recording(graph):
        left = a.tangent if isinstance(a, Dual) else 0.0
        right = b.tangent if isinstance(b, Dual) else 0.0
        moved = torch.where(chosen, left, right)
    return Dual.of(out, moved, graph)
