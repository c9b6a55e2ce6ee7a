"""The check of conventions must accept every true field and name what is wrong with a false one."""

import pytest
import torch

from flowgen.core import InputError, Pair
from flowgen.paths import (
    AffinePath,
    FromDiffusersFlow,
    Linear,
    ToDiffusersFlow,
    check_agreement,
    check_conventions,
)


def pairs(oracle, n=2000):
    """Unlabelled pairs of the mixture that the oracle is exact for."""
    pair = oracle.sample(n, generator=torch.Generator().manual_seed(0))
    return Pair(pair.x_0, pair.x_1)


def test_the_exact_field_of_every_schedule_passes(schedule, mixture_on):
    oracle = mixture_on(schedule)
    path = AffinePath(schedule)
    check = check_conventions(oracle, path, pairs(oracle))
    check.require()
    assert check.losses["v(x, t)"] == min(check.losses.values())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("-v(x, t)", lambda v: lambda x, t, cond=None: -v(x, t)),
        ("v(x, 1 - t)", lambda v: lambda x, t, cond=None: v(x, 1 - t)),
        ("-v(x, 1 - t)", lambda v: lambda x, t, cond=None: -v(x, 1 - t)),
    ],
)
def test_each_wrong_reading_is_named(name, wrong, mixture_on):
    oracle = mixture_on(Linear())
    field = wrong(oracle)
    check = check_conventions(field, AffinePath(Linear()), pairs(oracle))
    assert check.better == name
    with pytest.raises(InputError, match="another convention"):
        check.require()


def test_a_foreign_model_passes_once_it_is_wrapped(mixture_on):
    oracle = mixture_on(Linear())
    foreign = ToDiffusersFlow(oracle)
    path, pair = AffinePath(Linear()), pairs(oracle)
    check_conventions(FromDiffusersFlow(foreign), path, pair).require()
    raw = check_conventions(lambda x, t, cond=None: foreign(x, 1000 * t), path, pair)
    assert raw.better == "-v(x, 1 - t)"


def test_an_untrained_field_is_not_called_foreign_but_leads_nowhere(mixture_on):
    oracle = mixture_on(Linear())
    check = check_conventions(
        lambda x, t, cond=None: torch.zeros_like(x), AffinePath(Linear()), pairs(oracle)
    )
    assert check.better is None
    assert check.gain == 0.0
    with pytest.raises(InputError, match="does not lead towards the data"):
        check.require()


def test_the_gain_is_that_of_a_straight_line():
    # One data point: the field is known, and a step ends on the pair's own later state.
    point = torch.tensor([2.0, -1.0], dtype=torch.float64)
    pair = Pair(
        torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
        point.expand(64, 2).clone(),
    )

    def field(x, t, cond=None):
        return (point - x) / (1 - t[:, None])

    check = check_conventions(field, AffinePath(Linear()), pair)
    assert check.gain == pytest.approx(1.0, abs=1e-12)
    half = check_conventions(lambda x, t, cond=None: field(x, t) / 2, AffinePath(Linear()), pair)
    assert half.gain == pytest.approx(0.5, abs=1e-12)


def test_times_can_be_dealt_at_random_and_conditions_reach_the_field(mixture_on):
    oracle = mixture_on(Linear())
    pair = pairs(oracle)
    seen = []

    def field(x, t, cond=None):
        seen.append((t, cond))
        return oracle(x, t)

    labelled = Pair(pair.x_0, pair.x_1, {"label": torch.zeros(len(pair), dtype=torch.int64)})
    generator = torch.Generator().manual_seed(5)
    check_conventions(field, AffinePath(Linear()), labelled, generator=generator).require()
    t, cond = seen[0]
    assert cond is not None
    assert not torch.equal(t, t.sort().values)
    assert t.max() < 0.9 < t.max() + 0.01


def test_student_and_teacher_agree_or_say_how_they_differ(mixture_on):
    oracle = mixture_on(Linear())
    path, pair = AffinePath(Linear()), pairs(oracle, 200)

    def almost(x, t, cond=None):
        return oracle(x, t) * (1 + 1e-5)

    assert check_agreement(almost, oracle, path, pair) == pytest.approx(1e-5, rel=1e-3)
    foreign = ToDiffusersFlow(oracle, time_scale=1.0)
    with pytest.raises(InputError, match=r"read as -v\(x, 1 - t\) it would agree"):
        check_agreement(foreign, oracle, path, pair)
    with pytest.raises(InputError, match="do not start from the same"):
        check_agreement(lambda x, t, cond=None: 2 * oracle(x, t), oracle, path, pair)


def test_refusals(mixture_on):
    oracle = mixture_on(Linear())
    pair = pairs(oracle, 7)
    with pytest.raises(InputError, match="at least 8 pairs"):
        check_conventions(oracle, AffinePath(Linear()), pair)
    with pytest.raises(InputError, match="step must be in"):
        check_conventions(oracle, AffinePath(Linear()), pairs(oracle, 8), step=1.0)
