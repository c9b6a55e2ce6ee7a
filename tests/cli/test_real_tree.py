"""The configs that ship: help cannot go stale, and slips over their names are understood."""

import random
import string

import pytest

from flowgen.cli import UsageError, config_dir
from flowgen.cli.compose import composed
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.overrides import OverrideCheck
from flowgen.cli.settings import Settings
from flowgen.cli.suggest import nearest
from flowgen.cli.verbs import VERBS


@pytest.fixture(scope="module")
def shipped():
    return ConfigTree((config_dir(),))


def slip(name, rng):
    """Drop, swap, double or replace one letter; dots stay."""
    places = [i for i in range(len(name)) if name[i].isalpha() or name[i] == "_"]
    i = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        return name[:i] + name[i + 1 :]
    if kind == 1 and i + 1 < len(name) and name[i + 1] != ".":
        return name[:i] + name[i + 1] + name[i] + name[i + 2 :]
    if kind == 2:
        return name[:i] + name[i] + name[i:]
    return name[:i] + rng.choice(string.ascii_lowercase) + name[i + 1 :]


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
def test_every_override_in_the_help_is_accepted(verb, shipped):
    for example in verb.overrides:
        words = [word for word in example.text.split() if not word.startswith("--")]
        required = [word for word in verb.required if word not in words]
        multirun = words != example.text.split()
        check = OverrideCheck(shipped, verb.config_name, multirun, filled_in=verb.filled_in)
        assert check([*required, *words]) == (2 if multirun else 1)


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
def test_the_example_command_is_accepted(verb, shipped):
    words = [word for word in verb.command.split() if "=" in word]
    words = [word.replace("<time>", "a") for word in words]
    assert OverrideCheck(shipped, verb.config_name, filled_in=verb.filled_in)(words) == 1


def test_slips_over_all_names_are_understood(shipped):
    rng = random.Random(0)
    with composed(shipped, "train", []) as config:
        names = sorted(Settings(config, shipped, "train").names)
    right = tried = 0
    while tried < 200:
        meant = rng.choice(names)
        typed = slip(meant, rng)
        if typed not in names:
            tried += 1
            right += nearest(typed, names)[:1] == [meant]
    assert right >= 190


def test_slips_over_choices_are_understood(shipped):
    rng = random.Random(1)
    right = tried = 0
    for group, choices in shipped.groups_of("train").items():
        for meant in choices:
            typed = slip(meant, rng)
            if len(meant) < 3 or typed in choices:
                continue
            with pytest.raises(UsageError, match=f"^{group} has no choice") as caught:
                OverrideCheck(shipped, "train")([f"{group}={typed}"])
            tried += 1
            right += f"did you mean '{meant}'?" in str(caught.value)
    assert tried > 20
    assert right >= 0.95 * tried


def test_every_choice_says_what_it_is(shipped):
    silent = [
        f"{group}/{choice}"
        for group, choices in shipped.groups().items()
        for choice in choices
        if not shipped.describe(f"{group}/{choice}")
    ]
    assert silent == []
