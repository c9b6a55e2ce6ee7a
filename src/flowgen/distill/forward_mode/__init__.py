"""Jacobian-vector products of a network, at the price of one more pass and not of ten.

Forward mode carries ``(f, df)`` through every operation: ``(x y, dx y + x dy)`` for a product.
torch has it for all of them, but pairs every constant (a bias, a scale, a table of rotations) with
a symbolic zero whose shape is worked out in Python, about half a millisecond an operation. Here the
operations that networks are made of have rules of their own; torch's are used for any other. The
Jacobians of element-wise functions, of the softmax and of normalisations are symmetric, so torch's
backward kernels multiply by them as they are.

Values keep their graph, so that one pass gives both the value to train and its derivative.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowgen.distill.forward_mode import rules as rules
from flowgen.distill.forward_mode.by_torch import by_torch_alone
from flowgen.distill.forward_mode.dual import Dual, Function, UnsupportedError

__all__ = ["jvp"]


def jvp(
    function: Function,
    primals: Sequence[Tensor],
    tangents: Sequence[Tensor],
    *,
    graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return ``f(*primals)`` and its derivative along ``tangents``.

    Args:
        function: Of tensors, to one tensor; compiled parts of it run as they are written.
        primals: Where it is evaluated.
        tangents: Direction; each of the shape of its primal.
        graph: Whether the derivative has a graph, as the value has where gradients are recorded.
    """
    duals = [
        Dual.of(primal, tangent, graph) for primal, tangent in zip(primals, tangents, strict=True)
    ]
    with torch.compiler.set_stance("force_eager"):
        try:
            found = function(*duals)
        except UnsupportedError:
            # Operations in place and the like.
            return by_torch_alone(function, primals, tangents, graph)
    if isinstance(found, Dual):
        return found.primal, found.tangent
    return found, torch.zeros_like(found)
