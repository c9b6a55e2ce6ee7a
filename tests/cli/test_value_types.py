import pytest

from flowgen.cli.value_types import problem_with

MISFITS = [
    (2.5, 1, "key expects an integer, got 2.5"),
    (2.0, 1, "key expects an integer, got 2.0; write key=2"),
    (True, 1, "key expects an integer, got true"),
    ("a", 1, "key expects an integer, got 'a'"),
    ([1], 1, "key expects an integer, got [1]"),
    ("fast", 0.5, "key expects a number, got 'fast'"),
    (False, 0.5, "key expects a number, got false"),
    ({"a": 1}, 0.5, "key expects a number, got {'a': 1}"),
    (1, True, "key expects true or false, got 1"),
    ("yes", False, "key expects true or false, got 'yes'"),
    ({"a": 1}, "auto", "key expects a word, got {'a': 1}"),
    (3, [1], "key expects a list, got 3; write key=[3]"),
    ([1, "a"], [2, 3], "key.1 expects an integer, got 'a'"),
    ([[1], [0.5]], [[2], [3]], "key.1.0 expects an integer, got 0.5"),
    (3, {"_target_": "a", "b": 1}, "key is a section: set its parts, such as key.b=..., got 3"),
    (3, {"_target_": "a"}, "key is a section: set its parts, got 3"),
]

FITS = [
    (None, 1),
    (None, {"a": 1}),
    ("a", None),
    ([1], None),
    ("a", "???"),
    (2, 1),
    (2, 0.5),
    (float("inf"), 0.5),
    (True, False),
    (3, "auto"),
    ([0, 1], "auto"),
    (True, "auto"),
    ([], [1]),
    ([None], [1]),
    ([1, "a"], []),
    ([1, "a"], [1, 0.5]),
    ("${other}", 1),
    ("${other}", {"a": 1}),
    ({"a": "b"}, {"a": 1}),
]


@pytest.mark.parametrize(("value", "default", "problem"), MISFITS)
def test_misfit(value, default, problem):
    assert problem_with("key", value, default) == problem


@pytest.mark.parametrize(("value", "default"), FITS)
def test_fit(value, default):
    assert problem_with("key", value, default) is None


def test_one_number_or_a_list_of_them_where_both_are_offered():
    assert problem_with("data.size", [48, 64], 32) is None
    assert problem_with("data.size", 48, 32) is None
    assert problem_with("data.distribution.stds", 0.5, [0.5, 0.5]) is None
    assert "expects an integer" in problem_with("data.size", "big", 32)
    assert "expects an integer" in problem_with("data.size", [48, 1.5], 32)
