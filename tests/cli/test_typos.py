"""Did you mean: the right answer comes first for at least 95 % of typos over the real tree."""

from collections import Counter

import pytest

from flowgen.cli.compose import composed
from flowgen.cli.config_dir import config_dir
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.settings import Settings
from flowgen.cli.suggest import did_you_mean
from typos import SLIPS, typos

TREE = ConfigTree((config_dir(),))
LEAST = 0.95


def shares(answers):
    """The share of right answers, over all and for each kind of slip."""
    right, total = Counter(), Counter()
    for kind, correct in answers:
        right[kind] += correct
        total[kind] += 1
    return sum(right.values()) / sum(total.values()), {k: right[k] / total[k] for k in total}


@pytest.mark.parametrize("verb", ["train", "sample", "evaluate"])
def test_keys_and_groups(verb):
    with composed(TREE, verb, []) as config:
        settings = Settings(config, TREE, verb)
        names = [name for name, choice in settings.names.items() if not choice]
        found = typos(names, 200, seed=1)
        answers = [
            (kind, settings.unknown(typed).endswith(f"did you mean '{meant}'?"))
            for kind, typed, meant in found
        ]
    assert len(found) == 200
    overall, kinds = shares(answers)
    assert set(kinds) == set(SLIPS)
    assert overall >= LEAST
    assert min(kinds.values()) >= 0.9, kinds


def test_choices():
    answers = []
    for i, (_, choices) in enumerate(sorted(TREE.groups().items())):
        for kind, typed, meant in typos(choices, 12, seed=i):
            answers.append((kind, did_you_mean(typed, choices) == f"; did you mean '{meant}'?"))
    assert len(answers) >= 150
    assert shares(answers)[0] >= LEAST


def test_a_key_without_its_section_is_found():
    with composed(TREE, "train", []) as config:
        settings = Settings(config, TREE, "train")
        names = [name for name, choice in settings.names.items() if not choice]
        ends = Counter(name.rpartition(".")[2] for name in names)
        lonely = [
            name
            for name in names
            if "." in name and ends[name.rpartition(".")[2]] == 1 and not name.startswith("facts")
        ]
        assert len(lonely) > 15
        for name in lonely:
            typed = name.rpartition(".")[2]
            assert settings.unknown(typed).endswith(f"did you mean '{name}'?"), typed


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("learning_rate", "optimizer.lr"),
        ("lr", "optimizer.lr"),
        ("batch_size", "data.batch_size"),
        ("bs", "data.batch_size"),
        ("max_steps", "trainer.max_steps"),
        ("workers", "data.num_workers"),
        ("wd", "optimizer.weight_decay"),
        ("devices", "trainer.devices"),
        ("optim.lr", "optimizer.lr"),
    ],
)
def test_the_words_of_other_tools(typed, meant):
    with composed(TREE, "train", []) as config:
        settings = Settings(config, TREE, "train")
        assert settings.unknown(typed).endswith(f"did you mean '{meant}'?")
