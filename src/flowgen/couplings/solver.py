"""Exact optimal transport between two samples of equal size: an assignment problem.

For uniform weights some optimal plan is a permutation (Birkhoff). The sum of ``|x_0 - x_1|^2`` over
a permutation is a constant minus twice the sum of ``x_0 . x_1``, and moving either cloud adds
another constant, so the smallest sum of ``-x_0 . x_1`` of the centred clouds has the same optimum;
it is one matrix product and the solver needs half the time on it. Optimal up to the rounding of the
cost matrix, whose type is that of the samples and at least float32.

The solver is the fastest one measured for the size (``benchmarks/couplings.py``); all are exact.
On a line it is a sort. Jonker-Volgenant in its newer form (lapx) is fastest in many dimensions,
where rows differ clearly, and for small batches. Larger batches in few dimensions are hard for it,
for neighbours compete: potentials from Sinkhorn sweeps, at a strength that falls, leave little to
do when they are taken off the cost. Any potentials change all permutations' sums alike, so rounding
in the sweeps cannot change the optimum.
"""

import time
from collections.abc import Callable

import lap
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import InputError, Pair, flatten
from flowgen.couplings.figures import with_figures

_FEW_DIMS = 8
"""Dimensions up to which neighbours compete so much that potentials pay."""

_SMALL = 64
"""Rows up to which potentials cost more than they save in few dimensions."""

_MEDIUM = 128
"""Rows up to which one stage of sweeps is enough."""

Stages = tuple[tuple[float, int], ...]
"""Strengths, in standard deviations of the cost, and how many Sinkhorn sweeps at each."""

_ONE_STAGE: Stages = ((0.1, 10),)
_TWO_STAGES: Stages = ((0.15, 10), (0.03, 20))

_NOTHING = -30.0
"""Exponents below are left out: no number becomes denormal, which would be slow."""


@torch.no_grad()
def optimal_permutation(
    x_0: Float[Tensor, "n *d"], x_1: Float[Tensor, "m *e"]
) -> Int[Tensor, " n"]:
    """Return ``index`` such that the pairs ``(x_0[index], x_1)`` have the least squared distance.

    ``index`` minimises ``sum_i |x_0[index[i]] - x_1[i]|^2`` over all permutations. The solver runs
    on the CPU and so waits for an accelerator; time O(n^3), memory O(n^2).

    Args:
        x_0: Source samples, shape ``(n, *d)``, finite.
        x_1: Data samples, the same shape and device.

    Returns:
        A permutation of ``0 .. n - 1``, shape ``(n,)``, int64, on the device of ``x_1``.

    Raises:
        InputError: If the shapes differ, or a value is not finite or its square overflows.

    Source: Jonker and Volgenant 1987 by way of lapx; Pooladian et al. 2023,
        arXiv 2304.14772, for the use in flow matching.
    """
    if x_0.shape != x_1.shape:
        raise InputError(
            f"x_0 and x_1 must have one shape, got {tuple(x_0.shape)} and {tuple(x_1.shape)}"
        )
    a, b = _centred(x_1), _centred(x_0)
    # Autocast would compute the product in half precision and return a worse permutation.
    with torch.autocast(x_1.device.type, enabled=False):
        cost = (a @ b.mT).neg_()
    matrix = cost.cpu()
    # The sum, which is cheap, is finite only if all costs are.
    if not bool(matrix.sum().isfinite()) and not bool(matrix.isfinite().all()):
        raise InputError(
            "x_0 and x_1 must be finite with finite squares, else no pair has a cost: "
            f"{int((~matrix.isfinite()).sum())} of {matrix.numel()} costs are not"
        )
    if a.shape[1] == 1:
        return _on_a_line(a.flatten(), b.flatten())
    if a.shape[1] > _FEW_DIMS or len(matrix) <= _SMALL:
        _, _, index = lap.lapjvh(matrix.numpy())
    else:
        stages = _ONE_STAGE if len(matrix) <= _MEDIUM else _TWO_STAGES
        _, _, index = lap.lapjvh(_reduced(matrix, stages).numpy())
    return torch.from_numpy(index).to(x_1.device, torch.int64)


def _on_a_line(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return the row of ``b`` for each row of ``a``, both in their order."""
    index = torch.empty(len(a), dtype=torch.int64, device=a.device)
    index[a.argsort()] = b.argsort()
    return index


def _reduced(cost: Float[Tensor, "n n"], stages: Stages) -> Float[Tensor, "n n"]:
    """Return the cost less the potentials of a few Sinkhorn sweeps: none negative, many near 0.

    From one strength to the next the kernel is made of what the potentials have left of the cost,
    so that at the smallest no column is without mass.
    """
    spread = float(cost.std().clamp(min=torch.finfo(cost.dtype).tiny))
    left = _without_least(cost)
    for share, sweeps in stages:
        epsilon = share * spread
        kernel = torch.threshold_(left / -epsilon, _NOTHING, -torch.inf).exp_()
        v = cost.new_ones(len(cost))
        for _ in range(sweeps):
            u = (kernel @ v).reciprocal_()
            v = (u @ kernel).reciprocal_()
        # A column that is far from all rows has no mass in the kernel.
        left -= (epsilon * v.log()).nan_to_num(0.0, 0.0, 0.0)
        left = _without_least(left)
    return left


def _without_least(cost: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Return the cost less the least of each row, and then of each column."""
    left = cost - cost.amin(dim=1, keepdim=True)
    left -= left.amin(dim=0)
    return left


def repair(pair: Pair, solve: Callable[[Tensor, Tensor], Tensor], *, name: str) -> Pair:
    """Return ``pair`` with the rows of ``x_0`` permuted by ``solve(x_0, x_1)`` and its figures.

    The result is the optimum, so ``coupling/optimality`` is 1.

    Args:
        pair: Without weights; ``x_1`` and ``cond`` stay where they are.
        solve: Returns the row of ``x_0`` that goes to each row of ``x_1``.
        name: Of the coupling, for the error.

    Raises:
        InputError: If the pair carries weights.
    """
    if pair.weight is not None:
        raise InputError(
            f"{name} got pairs with weights: permuting x_0 would weigh the source by where it was "
            "sent; weigh the pairs after the coupling"
        )
    start = time.perf_counter()
    x_0 = pair.x_0[solve(pair.x_0, pair.x_1)]
    elapsed = 1e3 * (time.perf_counter() - start)
    after = Pair(x_0, pair.x_1, pair.cond)
    return with_figures(pair, after, ms=elapsed, extra={"coupling/optimality": 1.0})


def _centred(x: Tensor) -> Tensor:
    flat = flatten(x)
    flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
    return flat - flat.mean(dim=0)
