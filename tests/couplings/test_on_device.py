"""Couplings on an accelerator pair the rows that they pair on the CPU, and leave them there.

On the CPU the same tests say that the draws follow from the generator alone.
"""

from functools import partial

import pytest
import torch

from flowgen.core import Pair
from flowgen.couplings import (
    ClassAssignment,
    ConditionAssignment,
    Entropic,
    ExactAssignment,
    Independent,
    PartialAssignment,
    SinkhornNewtonSparse,
    SparseTransport,
    StableMatching,
    UnbalancedTransport,
    Weighted,
)

GPU = pytest.mark.gpu
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
COUPLINGS = {
    "independent": Independent,
    "exact": ExactAssignment,
    "classes": ClassAssignment,
    "conditions": partial(ConditionAssignment, 0.1),
    "partial": partial(PartialAssignment, 0.8),
    "stable": StableMatching,
    "sparse": SparseTransport,
    "entropic": Entropic,
    "newton": partial(Entropic, solver=SinkhornNewtonSparse()),
    "unbalanced": partial(UnbalancedTransport, 1.0, 1.0),
    "weighted": partial(Weighted, 1.0),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", COUPLINGS)
def test_pairs_are_those_of_the_cpu(name, device, generator):
    x_0 = torch.randn(48, 3, generator=generator, dtype=torch.float64)
    x_1 = 2 * torch.randn(48, 3, generator=generator, dtype=torch.float64) + 1
    label = torch.randint(0, 3, (48,), generator=generator)
    cond = {"label": label} if name in ("classes", "conditions") else None
    here = Pair(x_0, x_1, cond)
    there = Pair(
        x_0.to(device),
        x_1.to(device),
        None if cond is None else {"label": label.to(device)},
    )
    found = [
        COUPLINGS[name]()(pair, generator=torch.Generator().manual_seed(1))
        for pair in (here, there)
    ]
    for side in ("x_0", "x_1", "weight"):
        own, other = (getattr(pair, side) for pair in found)
        assert (own is None) == (other is None)
        if own is not None:
            assert other.device.type == device
            torch.testing.assert_close(other.cpu(), own)
    costs = [float(pair.stats["coupling/cost"]) for pair in found]
    assert costs[1] == pytest.approx(costs[0], rel=1e-9)


@pytest.mark.parametrize(("device", "n"), [("cpu", 600), pytest.param("cuda", 8192, marks=GPU)])
def test_where_no_matrix_of_costs_is_held_the_pairs_cost_the_same(device, n):
    generator = torch.Generator(device).manual_seed(0)
    x_0 = torch.randn(n, 8, generator=generator, device=device)
    x_1 = 2 * torch.randn(n, 8, generator=generator, device=device) + 1
    pairs = [
        Entropic(0.2, max_elements=most)(Pair(x_0, x_1), generator=torch.Generator().manual_seed(1))
        for most in (n * n, n * n // 16)
    ]
    costs = [float(pair.stats["coupling/cost"]) for pair in pairs]
    # Rounding in another order may draw another partner for a row in a thousand; on CPUs for none.
    assert costs[0] == pytest.approx(costs[1], rel=1e-6 if device == "cpu" else 1e-3)
