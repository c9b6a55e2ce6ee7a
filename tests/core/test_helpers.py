"""Broadcasting, randomness, value checks and the protocols."""

import pytest
import torch

from flowgen.core import (
    InputError,
    VelocityField,
    check_values,
    debug_checks,
    domain_of,
    expand,
    flatten,
    generator_for,
    mean_over_dims,
    per_sample,
)


@pytest.mark.parametrize("shape", [(3, 2), (1, 4), (3, 2, 5, 3)])
def test_expand_scales_each_row_by_its_own_time(shape):
    x = torch.randn(shape)
    t = torch.arange(1.0, shape[0] + 1)
    rows = torch.stack([t[i] * x[i] for i in range(shape[0])])
    assert torch.equal(expand(t, x) * x, rows)


@pytest.mark.parametrize("t", [torch.zeros(3, 1), torch.zeros(2), torch.zeros(())])
def test_expand_refuses_times_that_would_broadcast_against_the_last_axis(t):
    with pytest.raises(Exception, match="t"):
        expand(t, torch.zeros(3, 2))


def test_flatten_and_mean_keep_rows_apart():
    x = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert torch.equal(flatten(x)[1], torch.arange(12.0, 24.0))
    assert torch.equal(mean_over_dims(x), torch.tensor([5.5, 17.5]))


def test_generators_repeat_and_differ():
    draws = [
        torch.randn(4, generator=generator_for(*key)) for key in [(1, 2), (1, 2), (2, 1), (1,)]
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])


def test_per_sample_does_not_depend_on_how_samples_are_grouped():
    def draw(g):
        return torch.randn(1, 3, generator=g)

    whole = per_sample(draw, 7, range(5))
    parts = torch.cat([per_sample(draw, 7, range(2)), per_sample(draw, 7, [2, 3, 4])])
    assert torch.equal(whole, parts)
    assert len({float(row[0]) for row in whole}) == 5


def test_check_values_names_the_tensor_and_the_rule():
    check_values("t", torch.tensor([0.0, 1.0]), low=0, high=1)
    for bad, rule in ((-0.1, ">= 0"), (1.1, "<= 1"), (float("nan"), "finite")):
        with pytest.raises(ValueError, match=f"t must be {rule}"):
            check_values("t", torch.tensor([0.5, bad]), low=0, high=1)
    with debug_checks(False):
        check_values("t", torch.tensor([float("nan")]))


def test_domain_of_a_plain_function_is_the_whole_unit_interval():
    assert domain_of(lambda x, t, cond=None: x) == (0.0, 1.0)


def test_any_callable_is_a_field_and_input_errors_are_value_errors():
    assert isinstance(lambda x, t, cond=None: x, VelocityField)
    assert issubclass(InputError, ValueError)
