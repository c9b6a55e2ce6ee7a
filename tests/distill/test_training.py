"""Students of a mixture on the line arrive where the closed-form flow does.

Bounds are two to three times what was found with the seeds here; they tell a method that works from
one with a wrong sign or factor, not one method from another.
"""

import pytest

from flowgen.distill import (
    Difference,
    Eulerian,
    Lagrangian,
    Normalised,
    NormalisedDerivative,
    OfData,
    OfStudent,
    OfTeacher,
    Part,
    Ramp,
    ToEdge,
    Together,
    TwoTimes,
    VelocityDistillation,
)
from flowgen.objectives import LogitNormal
from mixture_map import PATH, fit, mean_error, oracle, smooth_student, student

LATE = LogitNormal(1.0, 1.5)


@pytest.fixture(scope="module")
def teacher():
    return OfTeacher(oracle())


def ends_by(field, objective, steps=1500):
    """Train a student and return its error in one jump."""
    fit(field, objective, steps, 1e-3)
    return mean_error(field)


@pytest.mark.slow
def test_velocity_matching_arrives_and_a_biased_tangent_does_not(teacher):
    """One jump of the teacher's velocity ends far off; the released normalisation does as well."""
    assert mean_error(student()) > 0.5
    plain = Eulerian(PATH, ToEdge(LATE), teacher)
    assert ends_by(student(), plain) < 0.05
    ramp = Ramp(0.3)
    whole = Eulerian(PATH, ToEdge(LATE), teacher, tangent=Normalised(0.1, ramp))
    assert ends_by(student(), whole, 1200) < 0.05
    biased = Eulerian(PATH, ToEdge(LATE), teacher, tangent=NormalisedDerivative(0.1, ramp))
    assert ends_by(student(), biased, 1200) > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("tangent", [None, Normalised(0.1, Ramp(0.3))], ids=["plain", "whole"])
def test_differences_do_as_well_as_derivatives(tangent, teacher):
    intervals = ToEdge(LATE, margin=0.01)
    objective = Eulerian(PATH, intervals, teacher, derivative=Difference(0.01), tangent=tangent)
    assert ends_by(student(), objective, 1200) < 0.05


class TimeLeft:
    """The weight ``1 - t``, with which velocity matching is continuous consistency."""

    def __call__(self, t, coefficients):
        return 1 - t


@pytest.mark.slow
def test_continuous_consistency_arrives(teacher):
    """As velocity matching with another weight of times."""
    weighted = Eulerian(PATH, ToEdge(), teacher, weighting=TimeLeft())
    assert ends_by(smooth_student(), weighted, 2500) < 0.08


def both(teacher, weight):
    return Together(
        {
            "matching": Part(Eulerian(PATH, ToEdge(), teacher)),
            "distillation": Part(VelocityDistillation(PATH, oracle()), weight=weight),
        }
    )


@pytest.mark.slow
def test_velocity_distillation_at_a_tenth_leaves_the_map_where_it_is(teacher):
    """From the first step, with a network smooth in time."""
    assert ends_by(smooth_student(), both(teacher, 0.1), 6000) < 0.05


@pytest.mark.slow
def test_velocity_distillation_leaves_the_map_where_it_is_and_alone_makes_none(teacher):
    """At full weight from the first step, as published, with a network smooth in time.

    Alone it is nothing after as many steps as take velocity matching to 0.04 from the same start.
    """
    assert ends_by(smooth_student(), both(teacher, 1.0), 6000) < 0.05
    assert ends_by(smooth_student(), VelocityDistillation(PATH, oracle()), 2500) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eulerian", "lagrangian", "self-distilled"])
def test_maps_between_any_times_arrive_in_one_jump_and_in_two(kind, teacher):
    few, many = TwoTimes(diagonal=0.25), TwoTimes(diagonal=0.5)
    objectives = {
        "eulerian": Eulerian(PATH, few, teacher, tangent=Normalised(0.1, Ramp(0.3))),
        "lagrangian": Lagrangian(PATH, few, teacher, teacher),
        "self-distilled": Lagrangian(PATH, many, teacher, OfStudent()),
    }
    steps, bound = (3000, 0.04) if kind == "eulerian" else (1000, 0.06)
    field = student(anywhere=True)
    assert ends_by(field, objectives[kind], steps) < bound
    assert mean_error(field, 2) < bound


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "improved"])
def test_mean_flow_arrives_from_data_alone(kind):
    """Targets are velocities of pairs and scatter: the first needs more steps for it."""
    objective, steps = Eulerian(PATH, TwoTimes(diagonal=0.75), OfData()), 4000
    if kind == "improved":
        about = {"along": OfStudent(), "diagonal": 1.0}
        objective, steps = Eulerian(PATH, TwoTimes(diagonal=0.5), OfData(), **about), 1200
    field = student(anywhere=True)
    assert ends_by(field, objective, steps) < 0.12
    assert mean_error(field, 2) < 0.12
