"""Guidance from data: its fixed point is that of classifier-free guidance, with any conditions."""

import pytest
import torch

from flowgen.core import InputError, PathPoint
from flowgen.distill import OfDataGuided
from flowgen.distill.students import alike
from flowgen.models import LabelConditioner
from flowgen.paths import Linear

OMEGA, KAPPA = 0.8, 0.6
SCALE = OMEGA / (1 - KAPPA)
NULL = {
    "label": torch.tensor([3]),
    "text": torch.zeros(1, 2, 4),
    "mask": torch.tensor([[True, False]]),
}


class Student:
    """Velocities that depend on whether there is a condition, and on which."""

    edges = None

    def __init__(self, guided):
        self.guided = guided

    def mean_velocity(self, x, s, t, cond=None):
        assert torch.equal(s, t)
        return self.guided(x, cond)


def unconditional(x):
    return torch.sin(x)


def conditional(x, cond):
    return x * (1 + cond["label"].to(x)[:, None]) + cond["text"].sum(dim=(1, 2))[:, None]


def empty(cond):
    return (cond["label"] == 3) & (cond["text"] == 0).all(2).all(1)


def fixed_point(x, cond):
    free = unconditional(x)
    return torch.where(empty(cond)[:, None], free, free + SCALE * (conditional(x, cond) - free))


@pytest.fixture
def velocity():
    made = OfDataGuided(OMEGA, KAPPA, low=0.1, high=0.9)
    made.use_null(lambda n, device: {k: v.expand(n, *v.shape[1:]) for k, v in NULL.items()})
    return made


def point_of(x, v, t):
    return PathPoint(x, v, t, Linear()(t))


def batch(generator):
    x = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    text = torch.randn(6, 2, 4, generator=generator, dtype=torch.float64)
    label = torch.tensor([0, 1, 2, 3, 3, 0])
    text[3] = 0  # neither label nor text: no condition; the next row has a text alone
    mask = torch.tensor([[True, False]]).expand(6, 2)
    return x, {"label": label, "text": text, "mask": mask}


def test_guidance_of_the_stated_scale_is_the_fixed_point(velocity, generator):
    x, cond = batch(generator)
    # The mean of the velocities of pairs is the conditional velocity, or the free one.
    mean = torch.where(empty(cond)[:, None], unconditional(x), conditional(x, cond))
    point = point_of(x, mean, torch.full((6,), 0.5, dtype=torch.float64))
    found = velocity(Student(fixed_point), point, cond)
    torch.testing.assert_close(found, fixed_point(x, cond), rtol=1e-12, atol=1e-12)
    other = velocity(Student(lambda x, cond: 1.1 * fixed_point(x, cond)), point, cond)
    assert (other[0] - found[0]).abs().max() > 1e-3


def test_rows_without_condition_and_other_times_keep_the_velocity_of_the_pair(velocity, generator):
    x, cond = batch(generator)
    v = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.05, 0.1, 0.9, 0.5, 0.5, 0.95], dtype=torch.float64)
    found = velocity(Student(fixed_point), point_of(x, v, t), cond)
    kept = (found == v).all(dim=1)
    assert kept.tolist() == [True, False, False, True, False, True]


def test_labels_alone_and_what_is_not_known():
    velocity = OfDataGuided(OMEGA, KAPPA)
    x = torch.randn(2, 3)
    point = point_of(x, x, torch.full((2,), 0.5))
    with pytest.raises(InputError, match="the condition that means"):
        velocity(Student(lambda x, cond: x), point, {"label": torch.tensor([0, 1])})
    with pytest.raises(InputError, match="needs a model with labels"):
        velocity.use_null(None)
    velocity.use_null(LabelConditioner(4).null)
    # The velocity of no label is 0, that of a label 1.
    told = Student(lambda x, cond: (cond["label"] != 4).to(x)[:, None].expand_as(x))
    found = velocity(told, point, {"label": torch.tensor([0, 4])})
    torch.testing.assert_close(found[0], OMEGA * x[0] + KAPPA)
    assert torch.equal(found[1], x[1])


def test_rows_are_alike_where_all_conditions_are(generator):
    text = torch.randn(5, 2, 3, generator=generator)
    text[3] = text[0]
    text[4] = text[0]
    cond = {"label": torch.tensor([1, 1, 0, 1, 2]), "text": text}
    number = alike(cond, 5, torch.device("cpu"))
    same = number[:, None] == number[None, :]
    expected = torch.eye(5, dtype=torch.bool)
    expected[0, 3] = expected[3, 0] = True
    assert torch.equal(same, expected)
    assert torch.equal(alike(None, 3, torch.device("cpu")), torch.zeros(3, dtype=torch.int64))
