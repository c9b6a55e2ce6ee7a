import pytest
import torch

from flowgen.core import InputError
from flowgen.metrics import neighbour_statistics
from flowgen.metrics import neighbours as module


def by_hand(samples, real, k, k_density):
    """The definitions of both papers, one pair at a time."""

    def distance(a, b):
        return float((a - b).square().sum().sqrt())

    def radius(i, points, k):
        others = sorted(distance(points[i], q) for j, q in enumerate(points) if j != i)
        return others[k - 1]

    def inside(p, points, k):
        return [distance(p, q) <= radius(i, points, k) for i, q in enumerate(points)]

    precision = sum(any(inside(p, real, k)) for p in samples) / len(samples)
    recall = sum(any(inside(p, samples, k)) for p in real) / len(real)
    hits = [inside(p, real, k_density) for p in samples]
    density = sum(map(sum, hits)) / (k_density * len(samples))
    coverage = sum(map(any, zip(*hits, strict=True))) / len(real)
    return precision, recall, density, coverage


@pytest.mark.parametrize("sizes", [(12, 17), (17, 12)])
def test_agrees_with_the_definitions(sizes, generator, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 5)
    samples = 0.7 * torch.randn(sizes[0], 3, generator=generator) + 0.4
    real = torch.randn(sizes[1], 3, generator=generator)
    found = neighbour_statistics(samples, real, k_support=2, k_density=4)
    values = found.precision, found.recall, found.density, found.coverage
    assert values == pytest.approx(by_hand(samples, real, 2, 4))
    assert 0 < found.recall < 1


def test_one_good_image_again_and_again_is_faithful_but_not_diverse(generator):
    real = torch.randn(60, 4, generator=generator)
    found = neighbour_statistics(real[7:8].repeat(60, 1), real)
    assert found.precision == 1
    assert found.recall <= 1 / 60
    assert found.coverage < 0.3


def test_sets_apart_share_nothing_and_equal_sets_everything(generator):
    real = torch.randn(30, 4, generator=generator)
    apart = neighbour_statistics(real + 100, real)
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0, 0, 0, 0)
    same = neighbour_statistics(real, real)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)


def test_density_of_one_distribution_is_one(generator):
    # Each real ball holds k of the N - 1 other real points, so k of N samples on average.
    sets = torch.randn(2, 1500, 2, generator=generator)
    found = neighbour_statistics(sets[0], sets[1])
    assert found.density == pytest.approx(1, abs=0.05)
    # Coverage of one distribution is 1 - C(N-1,k)-ish -> 1 - 2^-k (Naeem, eq. 8) at N = M.
    assert found.coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_an_outlier_fools_precision_but_not_density(generator):
    real = torch.cat([torch.randn(50, 2, generator=generator), torch.tensor([[30.0, 30.0]])])
    samples = torch.tensor([15.0, 15.0]) + torch.randn(50, 2, generator=generator)
    found = neighbour_statistics(samples, real)
    assert found.precision == 1
    assert found.density < 0.3


@pytest.mark.parametrize(
    ("samples", "real", "k", "message"),
    [
        ((9, 2), (9, 3), 3, "must be"),
        ((3, 2), (9, 2), 3, "k_support"),
        ((9, 2), (9, 2), 0, "k_support"),
    ],
)
def test_misfits_are_refused(samples, real, k, message):
    with pytest.raises((InputError, TypeError), match=message):
        neighbour_statistics(torch.zeros(samples), torch.zeros(real), k_support=k)


def test_values_must_be_finite():
    with pytest.raises(InputError, match="finite"):
        neighbour_statistics(torch.full((9, 2), float("nan")), torch.zeros(9, 2))
