"""Where the velocity is the student's own, both passes of its network drop the same features.

Of a field that is constant but for dropout all identities hold, if the masks of a row are the same.
"""

import pytest
import torch
from torch import nn

from flowgen.core import Pair
from flowgen.distill import (
    Difference,
    Eulerian,
    Exact,
    Lagrangian,
    OfData,
    OfDataGuided,
    OfStudent,
    TwoTimes,
)
from flowgen.distill.students import mask_state
from flowgen.models import MLP, FlowMapField, LabelConditioner
from flowgen.paths import AffinePath, Linear, Velocity

PATH = AffinePath(Linear())


class Dropping(nn.Module):
    """The velocity 1.5, but for two layers of dropout."""

    edges = None

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.masks = []

    def mean_velocity(self, x, s, t, cond=None):
        found = self.dropout(self.dropout(torch.full_like(x, 1.5)))
        self.masks.append(found.detach())
        return found

    def forward(self, x, t, cond=None):
        return self.mean_velocity(x, t, t, cond)


@pytest.fixture
def pair(generator):
    x_0, x_1 = torch.randn(2, 24, 3, generator=generator, dtype=torch.float64)
    return Pair(x_0, x_1 + 2, {"label": torch.arange(24) % 4})


def objectives(diagonal, derivative=None):
    own, times = OfStudent(), TwoTimes(diagonal=diagonal)
    return {
        "lagrangian": Lagrangian(PATH, times, own, own),
        "eulerian": Eulerian(PATH, times, own, derivative=derivative),
    }


@pytest.mark.parametrize("name", ["lagrangian", "eulerian"])
@pytest.mark.parametrize("diagonal", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("derivative", [Exact(), Difference(0.01)])
def test_constant_field_has_no_residual(name, diagonal, derivative, pair, generator):
    torch.manual_seed(3)
    loss = objectives(diagonal, derivative)[name](Dropping(), pair, generator=generator)
    assert float(loss.value.detach().abs().max()) < 1e-24
    assert float(loss.terms["residual"].sum()) < 1e-24


@pytest.mark.parametrize("name", ["lagrangian", "eulerian"])
def test_masks_differ_from_row_to_row_and_from_call_to_call(name, pair, generator):
    torch.manual_seed(3)
    student, objective = Dropping(), objectives(0.5)[name]
    objective(student, pair, generator=generator)
    with_length, *_, rest = [m for m in student.masks if len(m) == 12]
    assert not torch.equal(with_length, rest)
    student.masks.clear()
    objective(student, pair, generator=generator)
    assert not any(torch.equal(m, with_length) for m in student.masks if len(m) == 12)


@pytest.mark.parametrize("diagonal", [0.0, 0.25])
def test_the_field_that_a_derivative_goes_along_drops_the_same(diagonal, pair, generator):
    """Improved MeanFlow."""
    seen = []

    class Spy(Exact):
        def __call__(self, function, x, s, w):
            found = super().__call__(function, x, s, w)
            seen.append((w, found[0].detach()))
            return found

    objective = Eulerian(
        PATH, TwoTimes(diagonal=diagonal), OfData(), along=OfStudent(), derivative=Spy()
    )
    objective(Dropping(), pair, generator=generator)
    [(along, u)] = seen
    assert torch.equal(along, u)
    assert 0 < int((u == 0).sum()) < u.numel()


def test_rows_without_a_length_are_guided_by_their_own_masks(pair, generator):
    """The target is ``omega v + (1 - omega) u``, so ``omega (v - u)`` is what is left."""
    guided = OfDataGuided(0.5, 0.3)
    guided.use_null(LabelConditioner(4).null)
    times = TwoTimes(diagonal=1.0)
    for objective in (
        Lagrangian(PATH, times, guided, OfStudent()),
        Eulerian(PATH, times, guided),
    ):
        student = Dropping()
        loss = objective(student, pair, generator=generator)
        v, u = pair.x_1 - pair.x_0, student.masks[-1]
        torch.testing.assert_close(loss.value.detach(), (0.5 * (v - u)).square().mean(dim=1))


def test_networks_without_dropout_are_asked_for_all_rows_at_once(generator):
    """As many rows in a product of matrices, so the same results bit by bit."""
    x_0, x_1 = torch.randn(2, 24, 3, generator=generator)
    asked = []

    class Spy(OfStudent):
        def __call__(self, model, point, cond):
            asked.append(len(point.t))
            return super().__call__(model, point, cond)

    student = FlowMapField(MLP((3,), width=8, depth=1, interval=True), PATH, Velocity())
    before = mask_state(x_0)
    objective = Eulerian(PATH, TwoTimes(diagonal=0.25), OfData(), along=Spy())
    objective(student, Pair(x_0, x_1), generator=generator)
    assert asked == [24]
    assert torch.equal(mask_state(x_0), before)
