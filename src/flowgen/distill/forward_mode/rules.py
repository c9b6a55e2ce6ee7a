"""Which rule each function of torch follows."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from flowgen.distill.forward_mode.arithmetic import (
    addcmul,
    clamp,
    elementwise,
    gelu,
    plus,
    product,
    quotient,
    silu,
    where,
)
from flowgen.distill.forward_mode.by_torch import by_torch
from flowgen.distill.forward_mode.dual import Dual, Rule
from flowgen.distill.forward_mode.layers import (
    attention,
    dropout,
    group_norm,
    layer,
    layer_norm,
    rms_norm,
    softmax,
)
from flowgen.distill.forward_mode.structure import rearranged, structural, told


def _named(*names: str) -> list[Any]:
    """Return the functions of these names in torch, of tensors, and of their operators."""
    places = (torch, Tensor, functional)
    return [getattr(place, name) for place in places for name in names if hasattr(place, name)]


def _rules() -> dict[Any, Rule]:
    table: dict[Any, Rule] = {}

    def put(rule: Rule, *functions: Any) -> None:
        table.update(dict.fromkeys(functions, rule))

    backward = torch.ops.aten
    questions = ("shape", "dtype", "device", "ndim", "is_cuda", "is_sparse", "layout", "is_mkldnn")
    put(told, *(getattr(Tensor, name).__get__ for name in questions))
    put(told, *_named("size", "dim", "stride", "numel", "is_floating_point", "__len__"))
    put(told, *_named("is_contiguous", "storage_offset", "is_complex", "element_size"))
    put(structural, torch.cat, torch.concat, torch.stack)
    put(
        rearranged,
        *_named("view", "reshape", "permute", "transpose", "swapaxes", "unsqueeze", "squeeze"),
        *_named("expand", "chunk", "split", "unbind", "flatten", "unflatten", "contiguous", "to"),
        *_named("float", "double", "clone", "__getitem__", "neg", "__neg__", "sum", "mean", "t"),
        *_named("repeat", "roll", "flip", "movedim", "narrow", "select", "tile", "type_as"),
        *_named("repeat_interleave", "pixel_shuffle", "pixel_unshuffle", "interpolate", "cumsum"),
        *_named("avg_pool2d", "adaptive_avg_pool2d", "view_as", "reshape_as", "expand_as"),
        *(getattr(Tensor, name).__get__ for name in ("mT", "T", "H", "mH")),
    )
    put(layer, functional.linear, *_named("conv1d", "conv2d", "conv3d"))
    put(layer, *_named("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"))
    put(plus(1, 1), *_named("add", "__add__", "__radd__"))
    put(plus(1, -1), *_named("sub", "subtract", "__sub__"))
    put(plus(-1, 1), Tensor.__rsub__)
    put(product, *_named("mul", "multiply", "__mul__", "__rmul__", "matmul", "bmm", "mm"))
    put(product, Tensor.__matmul__)
    put(quotient, *_named("div", "true_divide", "divide", "__truediv__", "__rtruediv__"))
    put(addcmul, *_named("addcmul"))
    put(clamp, *_named("clamp", "clip"))
    put(where, torch.where)
    put(silu, functional.silu)
    put(elementwise(lambda t, x, y: backward.sigmoid_backward(t, y)), *_named("sigmoid"))
    put(elementwise(lambda t, x, y: backward.tanh_backward(t, y)), *_named("tanh"))
    put(elementwise(lambda t, x, y: t * (x > 0)), *_named("relu"))
    put(elementwise(lambda t, x, y: t * x.cos()), *_named("sin"))
    put(elementwise(lambda t, x, y: -t * x.sin()), *_named("cos"))
    put(elementwise(lambda t, x, y: t * y), *_named("exp"))
    put(elementwise(lambda t, x, y: t / x), *_named("log"))
    put(elementwise(lambda t, x, y: 2 * t * x), *_named("square"))
    put(elementwise(lambda t, x, y: t / (2 * y)), *_named("sqrt"))
    put(elementwise(lambda t, x, y: -0.5 * t * y / x), *_named("rsqrt"))
    put(gelu, functional.gelu)
    put(softmax, *_named("softmax"))
    put(layer_norm, functional.layer_norm)
    put(rms_norm, functional.rms_norm)
    put(group_norm, functional.group_norm)
    put(dropout, functional.dropout)
    put(attention, functional.scaled_dot_product_attention)
    return table


Dual.rules, Dual.unruled = _rules(), staticmethod(by_torch)
