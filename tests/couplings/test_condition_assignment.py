"""Transport with a price for a foreign condition: its weight, its limits and what it protects."""

import itertools

import pytest
import torch

from flowgen.core import Coupling, InputError, Pair
from flowgen.couplings import (
    ClassAssignment,
    ConditionAssignment,
    CosineDistance,
    optimal_permutation,
    ratio_weight,
)
from flowgen.metrics import label_probe


def pair(n, generator, shape=(2,), kind="text"):
    """Data whose place follows from the condition, with a mean and a scale of its own."""
    x_0 = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    x_1 = 1.7 * torch.randn(n, *shape, generator=generator, dtype=torch.float64) - 0.8
    if kind == "text":
        cond = {"text": torch.randn(n, 4, generator=generator, dtype=torch.float64)}
        x_1 = x_1 + cond["text"][:, :1].reshape(n, *[1] * len(shape))
    else:
        cond = {"label": torch.randint(0, 3, (n,), generator=generator)}
    return Pair(x_0, x_1, cond)


def squared(x_0, x_1):
    return torch.cdist(x_0.flatten(1), x_1.flatten(1)).square()


def reached(cost, foreign, weight):
    total = cost + weight * foreign
    return float((total <= total.diagonal()[:, None]).double().mean())


@pytest.mark.parametrize("shape", [(2,), (1, 2, 3)])
@pytest.mark.parametrize("n", [2, 5, 6])
def test_no_permutation_is_cheaper_at_the_weight_it_reports(n, shape, generator):
    for _ in range(5):
        given = pair(n, generator, shape)
        coupled = ConditionAssignment(0.49 if n == 2 else 0.4)(given) if n > 2 else given
        if n == 2:
            with pytest.raises(InputError, match="ratio"):
                ConditionAssignment(0.49)(given)
            continue
        weight = coupled.stats["coupling/weight"] * given.x_0[0].numel()
        total = squared(given.x_0, given.x_1) + weight * CosineDistance()(given.cond)
        best = min(
            sum(float(total[i, j]) for j, i in enumerate(order))
            for order in itertools.permutations(range(n))
        )
        rows = [int((given.x_0 == row).flatten(1).all(1).nonzero()) for row in coupled.x_0]
        ours = sum(float(total[i, j]) for j, i in enumerate(rows))
        assert sorted(rows) == list(range(n))
        assert ours == pytest.approx(best, rel=1e-9)
        assert torch.equal(coupled.x_1, given.x_1)
        assert torch.equal(coupled.cond["text"], given.cond["text"])


def bisected(cost, foreign, ratio, steps=60):
    """The weight by doubling and halving, as published, run until it no longer moves."""
    low, high = 0.0, 1.0
    while reached(cost, foreign, high) > ratio:
        low, high = high, 2 * high
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(cost, foreign, middle) > ratio else (low, middle)
    return high


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.4])
def test_weight_is_the_one_that_a_search_finds(ratio, generator):
    for _ in range(3):
        given = pair(64, generator)
        cost, foreign = squared(given.x_0, given.x_1), CosineDistance()(given.cond)
        weight = ratio_weight(cost, foreign, ratio)
        assert weight == pytest.approx(bisected(cost, foreign, ratio), rel=1e-6)
        assert reached(cost, foreign, weight) <= ratio < reached(cost, foreign, 0.999 * weight)


def test_a_smaller_ratio_moves_rows_less_far_and_saves_less(generator):
    given = pair(96, generator)
    stats = [ConditionAssignment(ratio)(given).stats for ratio in (0.02, 0.1, 0.3)]
    for name, sign in (("moved", 1), ("cost", -1), ("weight", -1), ("ratio", 1)):
        values = [sign * float(each[f"coupling/{name}"]) for each in stats]
        assert values == sorted(values), name
    ratios = (0.02, 0.1, 0.3)
    assert all(s["coupling/ratio"] <= ratio for s, ratio in zip(stats, ratios, strict=True))


def test_labels_that_cannot_reach_the_ratio_are_kept(generator):
    """With three classes 1/6 of all pairs gain at any price, so no row may change its class."""
    given = pair(60, generator, kind="label")
    coupled = ConditionAssignment(0.05)(given)
    assert coupled.stats["coupling/moved"] == 0
    assert torch.equal(coupled.x_0, ClassAssignment()(given).x_0)


def test_no_price_is_the_plain_assignment(generator):
    given = pair(40, generator)
    same = Pair(given.x_0, given.x_1, {"text": torch.ones(40, 3)})
    index = optimal_permutation(given.x_0, given.x_1)
    assert torch.equal(ConditionAssignment(0.1)(same).x_0, given.x_0[index])


def test_the_price_is_for_the_condition_that_the_noise_had_before():
    """Noise of row 0 is nearest to row 1's data, which has row 0's condition but for a trace."""
    x_0 = torch.tensor([[0.0], [10.0], [20.0], [30.0]])
    x_1 = torch.tensor([[11.0], [1.0], [31.0], [21.0]])
    near = {"text": torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])}
    far = {"text": torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])}
    swapped = ConditionAssignment(0.4)(Pair(x_0, x_1, near))
    assert swapped.x_0.flatten().tolist() == [10.0, 0.0, 30.0, 20.0]

    class Dear:
        def __call__(self, cond):
            return 1e6 * CosineDistance()(cond)

    kept = ConditionAssignment(0.26, Dear())(Pair(x_0, x_1, far))
    assert kept.stats["coupling/ratio"] <= 0.26
    assert torch.equal(kept.x_0, x_0)


def classes(n, generator):
    label = torch.randint(0, 2, (n,), generator=generator)
    x_1 = (6.0 * label - 3)[:, None] + 0.3 * torch.randn(n, 1, generator=generator)
    return Pair(torch.randn(n, 1, generator=generator), x_1, {"label": label})


def test_noise_tells_the_class_after_plain_transport_and_not_after_the_priced_one(generator):
    """Classes at -3 and 3, N(0, 1) noise, n = 128: 94 % against 49 %."""
    found = {"plain": [], "class": [], "condition": [], "text": []}
    label = []
    for _ in range(40):
        given = classes(128, generator)
        assert given.cond is not None
        label.append(given.cond["label"])
        text = torch.nn.functional.one_hot(given.cond["label"], 2).float()
        text = text + 0.05 * torch.randn(128, 2, generator=generator)
        found["plain"].append(given.x_0[optimal_permutation(given.x_0, given.x_1)])
        found["class"].append(ClassAssignment()(given).x_0)
        found["condition"].append(ConditionAssignment(0.01)(given).x_0)
        found["text"].append(
            ConditionAssignment(0.01)(Pair(given.x_0, given.x_1, {"text": text})).x_0
        )
    told = {
        name: label_probe(torch.cat(x_0), torch.cat(label)).accuracy for name, x_0 in found.items()
    }
    assert told["plain"] == pytest.approx(0.94, abs=0.02)
    # 2560 held-out rows: the standard error of a coin is 0.01.
    assert told["class"] == pytest.approx(0.5, abs=0.03)
    assert told["condition"] == pytest.approx(0.5, abs=0.03)
    assert told["text"] == pytest.approx(0.5, abs=0.03)


def test_distance_is_one_minus_cosine_and_counts_labels_as_one_hot(generator):
    text = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    rows = text.flatten(1)
    cosine = (rows @ rows.T) / (rows.norm(dim=1)[:, None] * rows.norm(dim=1)[None])
    assert torch.allclose(CosineDistance()({"text": text}), 1 - cosine, atol=1e-12)
    label = torch.tensor([0, 2, 2, 1, 0])
    one_hot = torch.nn.functional.one_hot(label).float()
    by_label = CosineDistance()({"label": label})
    assert torch.equal(by_label, CosineDistance()({"label": one_hot}))
    both = CosineDistance()({"label": label, "text": text})
    assert torch.allclose(both, by_label + 1 - cosine, atol=1e-12)
    assert torch.equal(CosineDistance(["label"])({"label": label, "text": text}), by_label)


def test_bad_conditions_are_refused(generator):
    given = pair(40, generator)
    for cond, message in [
        (None, "coupling=exact_assignment"),
        ({"text": torch.zeros(40, 2, dtype=torch.long)}, "labels"),
        ({"text": torch.zeros(40)}, "no vector"),
        ({"text": torch.full((40, 2), torch.nan)}, "finite"),
    ]:
        with pytest.raises(InputError, match=message):
            ConditionAssignment(0.1)(Pair(given.x_0, given.x_1, cond))
    with pytest.raises(InputError, match="no condition 'words', only \\['text'\\]"):
        ConditionAssignment(0.1, CosineDistance(["words"]))(given)
    with pytest.raises(InputError, match=r"take ratio above 0.025, or pair more than 50 rows"):
        ConditionAssignment(0.02)(given)
    with pytest.raises(InputError, match="weigh the pairs after"):
        ConditionAssignment(0.1)(Pair(given.x_0, given.x_1, given.cond, torch.ones(40)))
    given.x_1[3, 1] = torch.inf
    with pytest.raises(InputError, match="must be finite"):
        ConditionAssignment(0.1)(given)
    for ratio in (0.0, 0.5, -1.0, torch.nan):
        with pytest.raises(InputError, match="ratio must be in"):
            ConditionAssignment(ratio)
    with pytest.raises(InputError, match="names"):
        CosineDistance([])


def test_one_row_and_what_it_says_of_itself(generator):
    given = pair(1, generator, (3, 4))
    coupling = ConditionAssignment()
    assert torch.equal(coupling(given).x_0, given.x_0)
    assert isinstance(coupling, Coupling)
    assert (coupling.score_valid, coupling.exact_marginals, coupling.condition_safe) == (
        False,
        True,
        True,
    )
