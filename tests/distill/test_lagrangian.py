"""The exact flow map moves along the flow as its end moves."""

import pytest
import torch

from flow_maps import ExactMap
from flowgen.core import InputError
from flowgen.distill import Lagrangian, OfData, OfStudent, OfTeacher, TwoTimes
from flowgen.paths import AffinePath, Linear
from oracles import GaussianOracle

PATH = AffinePath(Linear())
MEAN = torch.tensor([2.0, -1.0])
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]])


@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)])
def test_exact_map_has_no_residual(shape, generator):
    oracle = GaussianOracle(MEAN, COV, shape=shape)
    pair = oracle.sample(64, generator=generator)
    for ahead in (OfTeacher(oracle), OfStudent()):
        objective = Lagrangian(PATH, TwoTimes(diagonal=0.25), OfTeacher(oracle), ahead)
        loss = objective(ExactMap(oracle), pair, generator=generator)
        assert float(loss.value.max()) < 1e-16


def test_loss_is_that_of_the_formula_and_its_gradient_is_whole(generator):
    """Against differences: of the jump in its end, and of the loss in the parameter."""
    oracle = GaussianOracle(MEAN, COV)
    pair = oracle.sample(64, generator=generator)
    objective = Lagrangian(PATH, TwoTimes(diagonal=0.0), OfData(), OfTeacher(oracle))

    def loss(error):
        student = ExactMap(oracle, error=error)
        return student, objective(student, pair, generator=torch.Generator().manual_seed(5))

    student, found = loss(0.3)
    draws = TwoTimes(diagonal=0.0)(64, generator=torch.Generator().manual_seed(5))
    s, t = draws.s.double(), draws.t.double()
    x = PATH.sample(pair, s).x_t

    def end(t):
        return x + (t - s)[:, None] * student.mean_velocity(x, s, t)

    h = 1e-5
    speed = (end(t + h) - end(t - h)) / (2 * h)
    expected = (speed - oracle(end(t), t)).square().mean(dim=1)
    torch.testing.assert_close(found.value, expected, rtol=1e-6, atol=1e-8)

    # The end of the jump is held in the velocity there, so the difference must hold it too.
    found.total().backward()
    held = oracle(end(t).detach(), t)

    def frozen(error):
        other = ExactMap(oracle, error=error)
        away = [x + (u - s)[:, None] * other.mean_velocity(x, s, u) for u in (t + h, t - h)]
        return ((away[0] - away[1]) / (2 * h) - held).square().mean()

    slope = (frozen(0.3 + 1e-4) - frozen(0.3 - 1e-4)) / 2e-4
    torch.testing.assert_close(student.error.grad, slope.detach(), rtol=1e-5, atol=1e-8)


def test_rows_without_a_length_are_flow_matching(generator):
    oracle = GaussianOracle(MEAN, COV)
    pair = oracle.sample(64, generator=generator)
    objective = Lagrangian(PATH, TwoTimes(diagonal=1.0), OfData(), OfStudent())
    loss = objective(ExactMap(oracle), pair, generator=generator)
    point = PATH.sample(pair, loss.t)
    scatter = (point.v_t - oracle(point.x_t, loss.t)).square().mean(dim=1)
    torch.testing.assert_close(loss.value, scatter)


def test_refuses_a_map_to_the_data_alone(generator):
    oracle = GaussianOracle(MEAN, COV)
    objective = Lagrangian(PATH, TwoTimes(), OfData(), OfStudent())
    with pytest.raises(InputError, match="any time"):
        objective(ExactMap(oracle, (0.0, 1.0)), oracle.sample(8, generator=generator))
