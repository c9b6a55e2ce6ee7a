"""The probe against known accuracies, a second implementation and chance."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from flowgen.core import InputError
from flowgen.metrics import label_probe


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3)])
def test_two_gaussians_are_told_as_well_as_can_be(shape, generator):
    """Means 2 apart in one coordinate, std 1.5: a linear rule is best, right at Phi(2 / 3)."""
    label = torch.randint(0, 2, (20_000,), generator=generator)
    x = 1.5 * torch.randn(20_000, *shape, generator=generator) + 4
    x.flatten(1)[:, 1] += 2.0 * label
    probe = label_probe(x, label)
    best = 0.5 * (1 + math.erf(2 / 3 / math.sqrt(2)))
    # 10000 held-out rows: standard error 0.0043.
    assert probe.accuracy == pytest.approx(best, abs=0.013)
    assert probe.chance == pytest.approx(0.5, abs=0.015)
    assert probe.num_held_out == 10_000


def test_independent_labels_stay_at_chance(generator):
    label = torch.multinomial(torch.tensor([0.2, 0.7, 0.1]), 6000, True, generator=generator) + 5
    probe = label_probe(torch.randn(6000, 4, generator=generator), label)
    assert probe.chance == pytest.approx(0.7, abs=0.02)
    assert probe.accuracy == pytest.approx(probe.chance, abs=0.01)


def test_it_agrees_with_scikit_learn(generator):
    label = torch.randint(0, 4, (2000,), generator=generator)
    x = torch.randn(2000, 5, generator=generator) + torch.eye(5)[label]
    half = len(x) // 2
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    found = [label_probe(x, label, seed=seed).accuracy for seed in range(4)]
    scores = []
    for _ in range(4):
        order = torch.randperm(2000, generator=generator)
        train, test = order[:half], order[half:]
        model = LogisticRegression().fit(x[train].numpy(), label[train].numpy())
        scores.append(model.score(x[test].numpy(), label[test].numpy()))
    assert sum(found) / 4 == pytest.approx(sum(scores) / 4, abs=0.03)


def test_rows_seen_in_the_fit_do_not_count(generator):
    """With more dimensions than rows a probe learns its half by heart."""
    label = torch.arange(400) % 2
    probe = label_probe(torch.randn(400, 500, generator=generator), label, penalty=0.0)
    assert probe.accuracy < 0.65


def test_bad_input_is_refused(generator):
    x, label = torch.randn(8, 2, generator=generator), torch.arange(8) % 2
    for rows, labels, message in [
        (x[:3], label[:3], "at least 4"),
        (x, label[:7], "one for each"),
        (x, label.float(), "integers"),
        (x, torch.zeros(8, dtype=torch.long), "two different"),
        (x * torch.nan, label, "finite"),
    ]:
        with pytest.raises(InputError, match=message):
            label_probe(rows, labels)
    with pytest.raises(InputError, match="penalty"):
        label_probe(x, label, penalty=-1.0)
