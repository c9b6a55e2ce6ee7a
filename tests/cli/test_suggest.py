from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgen.cli.suggest import did_you_mean, edit_distance, nearest

WORDS = st.text("abc", max_size=6)


def by_definition(a, b):
    @cache
    def distance(i, j):
        if min(i, j) == 0:
            return max(i, j)
        options = [
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
            distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]),
        ]
        if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
            options.append(distance(i - 2, j - 2) + 1)
        return min(options)

    return distance(len(a), len(b))


@settings(max_examples=150, deadline=None)
@given(WORDS, WORDS)
def test_edit_distance_against_its_recursive_definition(a, b):
    assert edit_distance(a, b) == by_definition(a, b)


KEYS = [
    "seed",
    "name",
    "path",
    "data.batch_size",
    "data.root",
    "optimizer.lr",
    "optimizer.weight_decay",
    "trainer.max_steps",
    "trainer.min_steps",
    "sampler.num_steps",
    "path.schedule.power",
]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("sed", "seed"),
        ("trainer.max_stpes", "trainer.max_steps"),
        ("trainr.min_steps", "trainer.min_steps"),
        ("lr", "optimizer.lr"),
        ("trainer.lr", "optimizer.lr"),
        ("learning_rate", "optimizer.lr"),
        ("bs", "data.batch_size"),
        ("batch", "data.batch_size"),
        ("decay", "optimizer.weight_decay"),
        ("schedule.power", "path.schedule.power"),
        ("model.num_steps", "sampler.num_steps"),
        ("optim.lr", "optimizer.lr"),
    ],
)
def test_what_was_meant_comes_first(typed, meant):
    assert nearest(typed, KEYS)[0] == meant


def test_nothing_near_is_said_by_saying_nothing():
    assert nearest("zzzzzz", KEYS) == []
    assert did_you_mean("zzzzzz", KEYS) == ""
    assert did_you_mean("sede", KEYS) == "; did you mean 'seed'?"
    assert nearest("seed", []) == []


def test_order_does_not_depend_on_the_order_of_candidates():
    assert nearest("steps", KEYS, limit=9) == nearest("steps", KEYS[::-1], limit=9)
