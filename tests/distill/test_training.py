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
    OfStudent,
    OfTeacher,
    Ramp,
    ToEdge,
    TwoTimes,
)
from flowgen.objectives import LogitNormal
from mixture_map import PATH, fit, mean_error, oracle, student

LATE = LogitNormal(1.0, 1.5)


@pytest.fixture(scope="module")
def teacher():
    return OfTeacher(oracle())


@pytest.mark.slow
def test_velocity_matching_arrives_and_a_biased_tangent_does_not(teacher):
    """One jump of the teacher's velocity ends far off; the released normalisation does as well."""
    assert mean_error(student()) > 0.5
    ramp = Ramp(0.3)
    whole = Eulerian(PATH, ToEdge(LATE), teacher, tangent=Normalised(0.1, ramp))
    field = student()
    fit(field, whole, 1200, 1e-3)
    assert mean_error(field) < 0.08
    biased = Eulerian(PATH, ToEdge(LATE), teacher, tangent=NormalisedDerivative(0.1, ramp))
    field = student()
    fit(field, biased, 1200, 1e-3)
    assert mean_error(field) > 0.3


@pytest.mark.slow
def test_differences_do_as_well_as_derivatives(teacher):
    field = student()
    intervals = ToEdge(LATE, margin=0.01)
    tangent = Normalised(0.1, Ramp(0.3))
    objective = Eulerian(PATH, intervals, teacher, derivative=Difference(0.01), tangent=tangent)
    fit(field, objective, 1200, 1e-3)
    assert mean_error(field) < 0.08


@pytest.mark.slow
def test_maps_between_any_times_arrive_in_one_jump_and_in_two(teacher):
    eulerian = Eulerian(PATH, TwoTimes(diagonal=0.25), teacher, tangent=Normalised(0.1, Ramp(0.3)))
    lagrangian = Lagrangian(PATH, TwoTimes(diagonal=0.25), teacher, teacher)
    alone = Lagrangian(PATH, TwoTimes(diagonal=0.5), teacher, OfStudent())
    for objective in (eulerian, lagrangian, alone):
        field = student(anywhere=True)
        fit(field, objective, 1000, 1e-3)
        assert mean_error(field) < 0.12
        assert mean_error(field, 2) < 0.12
