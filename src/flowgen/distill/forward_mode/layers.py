"""Rules of linear layers, softmax, normalisations and dropout."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from flowgen.distill.forward_mode.by_torch import by_torch
from flowgen.distill.forward_mode.dual import Dual, UnsupportedError, graph_of, held, recording


def layer(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A linear layer or convolution ``(x, weight, bias, ...)``: its tangent has no bias."""
    x, *rest = args
    named = {name for name in ("weight", "bias") if name in kwargs}
    others = tree_flatten((rest, kwargs))[0]
    if not isinstance(x, Dual) or named or any(isinstance(value, Dual) for value in others):
        if isinstance(x, Dual) and named and not any(isinstance(v, Dual) for v in others):
            both = [kwargs.pop("weight", None), kwargs.pop("bias", None)]
            weights = [*rest, *both[len(rest) :]] if len(rest) < 2 else rest
            return layer(func, [x, *weights], kwargs)
        return by_torch(func, args, kwargs)
    out = func(x.primal, *rest, **kwargs)
    with recording(x.graph):
        weight, *more = rest
        if not x.graph:
            weight = weight.detach()
        tail = [None, *more[1:]] if more else []
        moved = func(x.tangent, weight, *tail, **kwargs)
    return Dual.of(out, moved, x.graph)


def softmax(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow a softmax, whose Jacobian is symmetric."""
    x = args[0]
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if dim is None or kwargs.get("dtype") is not None:
        return by_torch(func, args, kwargs)
    out = func(x.primal, dim=dim)
    with recording(x.graph):
        kept = out if x.graph else out.detach()
        moved = torch._softmax_backward_data(x.tangent, kept, dim, kept.dtype)
    return Dual.of(out, moved, x.graph)


def layer_norm(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow a layer norm: a symmetric Jacobian, then the scale."""
    x, shape, weight, bias, eps = _norm_arguments(args, kwargs, ("normalized_shape",), 1e-5)
    if not isinstance(x, Dual) or isinstance(weight, Dual) or isinstance(bias, Dual):
        return by_torch(func, args, kwargs)
    out = func(x.primal, shape, weight, bias, eps)
    with recording(x.graph):
        fixed, sizes = held(x, x.graph), list(shape)
        _, mean, rstd = torch.native_layer_norm(fixed, sizes, None, None, eps)
        moved = torch.ops.aten.native_layer_norm_backward(
            x.tangent.contiguous(), fixed, sizes, mean, rstd, None, None, [True, False, False]
        )[0]
        if weight is not None:
            moved = moved * (weight if x.graph else weight.detach())
    return Dual.of(out, moved, x.graph)


def rms_norm(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow a root-mean-square norm."""
    x, shape, weight, _, eps = _norm_arguments(
        args, kwargs, ("normalized_shape",), None, bias=False
    )
    if not isinstance(x, Dual) or isinstance(weight, Dual):
        return by_torch(func, args, kwargs)
    out = func(x.primal, shape, weight, eps)
    with recording(x.graph):
        fixed, axes = held(x, x.graph), tuple(range(-len(shape), 0))
        floor = torch.finfo(fixed.dtype).eps if eps is None else eps
        scale = (fixed.square().mean(axes, keepdim=True) + floor).rsqrt()
        unit = fixed * scale
        moved = scale * (x.tangent - unit * (unit * x.tangent).mean(axes, keepdim=True))
        if weight is not None:
            moved = moved * (weight if x.graph else weight.detach())
    return Dual.of(out, moved, x.graph)


def group_norm(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow a group norm."""
    x, groups, weight, bias, eps = _norm_arguments(args, kwargs, ("num_groups",), 1e-5)
    if not isinstance(x, Dual) or isinstance(weight, Dual) or isinstance(bias, Dual):
        return by_torch(func, args, kwargs)
    out = func(x.primal, groups, weight, bias, eps)
    with recording(x.graph):
        fixed, by_group = held(x, x.graph), (x.shape[0], groups, -1)
        centred = fixed.reshape(by_group) - fixed.reshape(by_group).mean(2, keepdim=True)
        scale = (centred.square().mean(2, keepdim=True) + eps).rsqrt()
        unit, moved = centred * scale, x.tangent.reshape(by_group)
        moved = moved - moved.mean(2, keepdim=True) - unit * (unit * moved).mean(2, keepdim=True)
        moved = (scale * moved).reshape(fixed.shape)
        if weight is not None:
            kept = weight if x.graph else weight.detach()
            moved = moved * kept.reshape(-1, *[1] * (fixed.ndim - 2))
    return Dual.of(out, moved, x.graph)


def _norm_arguments(
    args: Sequence[Any],
    kwargs: dict[str, Any],
    second: tuple[str],
    eps: float | None,
    *,
    bias: bool = True,
) -> list[Any]:
    """Return input, sizes, weight, bias and eps of a normalisation, however they were given."""
    names = ["input", *second, "weight", *(["bias"] if bias else []), "eps"]
    found = dict(zip(names, args, strict=False)) | kwargs
    return [
        found.get(name, default)
        for name, default in zip(
            ["input", *second, "weight", "bias", "eps"], [None, None, None, None, eps], strict=True
        )
    ]


def dropout(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow dropout: value and tangent lose the same features."""
    found = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | kwargs
    x, share = found["input"], found.get("p", 0.5)
    if found.get("inplace"):
        raise UnsupportedError("dropout")
    if not found.get("training", True) or share == 0.0:
        return x
    mask = func(torch.ones_like(x.primal), share, True)
    with recording(x.graph):
        moved = x.tangent * mask
    return Dual.of(x.primal * mask, moved, x.graph)


def attention(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Follow torch's attention, by plain products of queries, keys and values."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    found = dict(zip(names, args, strict=False)) | kwargs
    mask, scale = found.get("attn_mask"), found.get("scale")
    if any(found.get(name) for name in ("dropout_p", "is_causal", "enable_gqa")):
        raise UnsupportedError("attention")
    parts = [found[name] for name in names[:3]]
    graph = graph_of(parts)
    q, k, v = (Dual.of(x, torch.zeros_like(x), graph) if type(x) is Tensor else x for x in parts)
    with torch._C._EnableTorchFunction():
        logits = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-1, -2)
        if mask is not None:
            seen = mask.dtype == torch.bool
            logits = torch.where(mask, logits, -torch.inf) if seen else logits + mask
        return logits.softmax(dim=-1) @ v
