"""What a strength does, against closed forms and loops; where the elbow is."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.couplings import Strength, Weighted, elbow, slopes, strengths


def test_figures_agree_with_loops(generator):
    x = torch.randn(6, 1, 2, generator=generator, dtype=torch.float64)
    y = 2 * torch.randn(8, 1, 2, generator=generator, dtype=torch.float64) + 1
    (row,) = strengths(x, y, [0.7])
    epsilon = 0.7 * math.sqrt(2)
    distance = [[float((a - b).norm()) for b in y] for a in x]
    weight = [[math.exp(-c / epsilon) for c in line] for line in distance]

    def covariance(first, second):
        a, b = sum(first) / len(first), sum(second) / len(second)
        pairs = zip(first, second, strict=True)
        return sum((p - a) * (q - b) for p, q in pairs) / len(first) / (a * b)

    rv_x = covariance([sum(w[:4]) for w in weight], [sum(w[4:]) for w in weight])
    columns = list(zip(*weight, strict=True))
    rv_y = covariance([sum(w[:3]) for w in columns], [sum(w[3:]) for w in columns])
    flat, far = sum(weight, []), sum(distance, [])
    cost = sum(w * c for w, c in zip(flat, far, strict=True)) / sum(flat) / (sum(far) / 48)
    assert row.rv_x == pytest.approx(rv_x, rel=1e-9)
    assert row.rv_y == pytest.approx(rv_y, rel=1e-9)
    assert row.ess == pytest.approx(sum(flat) ** 2 / sum(w * w for w in flat) / 48, rel=1e-9)
    assert row.cost == pytest.approx(cost, rel=1e-9)
    assert row.epsilon == pytest.approx(epsilon)


def test_noise_of_the_sample_does_not_count_as_tilt(generator):
    """On a ring around which the source is uniform every point weighs alike."""

    def ring(n):
        angle = 2 * math.pi * torch.rand(n, generator=generator)
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    rows = strengths(ring(1000), ring(1000), [0.02, 0.1, 1.0])
    for row in rows:
        assert abs(row.rv_x) < 0.02
        assert abs(row.rv_y) < 0.02
    # The plain variance over a batch of the means would be 0.05 here: 1 / (1000 ess).
    assert rows[0].ess < 0.03


def test_norm_of_the_data_tilts_as_the_specification_measured(generator):
    """d = 3072, |x_1|^2 / d uniform in (0.1, 0.6): RV_y 0.44 and 3.5 % at kappa = 0.09."""
    n, d = 400, 3072
    x = torch.randn(n, d, generator=generator)
    y = torch.randn(n, d, generator=generator)
    norm = (0.1 + 0.5 * torch.rand(n, 1, generator=generator)).sqrt()
    y = norm * y / y.square().mean(dim=1, keepdim=True).sqrt()
    rows = strengths(x, y, [0.05, 0.09, 0.2])
    assert [row.rv_y for row in rows] == pytest.approx([1.27, 0.44, 0.09], rel=0.15)
    assert [row.cost for row in rows] == pytest.approx([0.944, 0.965, 0.983], abs=0.005)
    assert [row.ess for row in rows[:2]] == pytest.approx([0.42, 0.68], abs=0.05)


def test_a_large_strength_changes_nothing_and_a_small_one_only_looks_near(generator):
    x = torch.randn(300, 2, generator=generator)
    y = torch.randn(300, 2, generator=generator) + 2
    rows = strengths(x, y, [0.05, 0.3, 2.0, 1000.0])
    assert [row.cost for row in rows] == sorted(row.cost for row in rows)
    assert [row.ess for row in rows] == sorted(row.ess for row in rows)
    assert rows[-1].cost == pytest.approx(1.0, abs=1e-3)
    assert rows[-1].ess == pytest.approx(1.0, abs=1e-3)
    assert rows[-1].rv_y == pytest.approx(0.0, abs=1e-5)
    assert max(rows[0].rv_x, rows[0].rv_y) > 0.5


def test_the_share_that_counts_is_that_of_the_coupling(generator):
    x = torch.randn(2000, 3, generator=generator)
    y = 0.5 * torch.randn(2000, 3, generator=generator) + 1
    from flowgen.core import Pair

    stats = Weighted(0.3, max_weight=1e6)(Pair(x, y)).stats
    (row,) = strengths(x, y, [0.3])
    assert float(stats["coupling/ess"]) == pytest.approx(row.ess, rel=0.1)
    assert float(stats["coupling/rv_y"]) == pytest.approx(row.rv_y, rel=0.35)


def row(kappa, rv_x, rv_y=0.0):
    return Strength(kappa, kappa, rv_x, rv_y, 1.0, 1.0)


def test_elbow_is_the_first_from_which_on_both_sides_stay_flat():
    e = math.e
    rows = [row(1, 2.0), row(e, 1.0), row(e**2, 0.99), row(e**3, 0.5), row(e**4, 0.49)]
    rows += [row(e**5, 0.48), row(e**6, 0.47)]
    expected = [1.0, 0.505, 0.25, 0.25, 0.01, 0.01, 0.01]
    assert slopes(rows) == pytest.approx(expected)
    found = elbow(rows, 0.05)
    assert found is not None
    assert found.kappa == pytest.approx(e**4)
    # The flat place between the second and the third is not the elbow of any slope.
    assert elbow(rows, 0.3) == rows[2]
    assert elbow(rows, 0.001) is None
    swapped = [row(r.kappa, 0.0, r.rv_x) for r in rows]
    again = elbow(swapped, 0.05)
    assert again is not None
    assert again.kappa == found.kappa


def test_bad_input_is_refused(generator):
    x = torch.randn(8, 2, generator=generator)
    for a, b, kappas, message in [
        (x[:3], x, [1.0], "at least 4"),
        (x, x[:, :1], [1.0], "one shape"),
        (x, x, [0.0], "kappa"),
        (x, x * torch.nan, [1.0], "finite"),
    ]:
        with pytest.raises(InputError, match=message):
            strengths(a, b, kappas)
    for rows in ([row(1, 1)], [row(2, 1), row(1, 1)]):
        with pytest.raises(InputError, match="at least 2"):
            slopes(rows)
    with pytest.raises(InputError, match="slope"):
        elbow([row(1, 1), row(2, 1)], 0.0)
