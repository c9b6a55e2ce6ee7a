import pytest
import torch

from flowgen.core import InputError, generator_for
from flowgen.metrics import FeatureSummary, GaussianStatistics, PixelFeatures, image_distances


def features(n=40, d=3):
    return 2 * torch.randn(n, d, generator=generator_for(1), dtype=torch.float64) + 1


def test_parts_merge_to_the_whole():
    x = features()
    whole = GaussianStatistics(3)
    whole.update(x)
    parts = []
    for rows in (x[:1], x[1:1], x[1:30], x[30:]):
        part = GaussianStatistics(3)
        part.update(rows)
        parts.append(part)
    merged = GaussianStatistics.merged(parts)
    assert merged.count == 40
    assert torch.allclose(merged.mean, x.mean(0), atol=1e-12)
    assert torch.allclose(merged.cov, x.mT.cov(), atol=1e-12)
    assert torch.allclose(merged.cov, whole.cov, atol=1e-12)
    with pytest.raises(InputError, match="one length"):
        GaussianStatistics.merged([whole, GaussianStatistics(2)])
    with pytest.raises(InputError, match="at least one"):
        GaussianStatistics.merged([])


@pytest.mark.parametrize("cuts", [(40,), (7, 40), (1, 10, 11, 40)])
def test_summary_keeps_the_first_features_however_they_come(cuts):
    x = features()
    summaries = []
    start = 0
    for stop in cuts:
        summary = FeatureSummary(12)
        for rows in x[start:stop].split(5):
            summary.update(rows)
        summaries.append(summary)
        start = stop
    merged = FeatureSummary.merged([*summaries, FeatureSummary(12)])
    assert merged.count == 40
    assert torch.equal(merged.kept, x[:12])
    assert merged.statistics is not None
    assert torch.allclose(merged.statistics.mean, x.mean(0), atol=1e-12)


def test_distances_stand_beside_the_floor(generator):
    real = torch.randint(0, 200, (90, 1, 3, 3), generator=generator, dtype=torch.uint8)
    bad = torch.randint(50, 256, (40, 1, 3, 3), generator=generator, dtype=torch.uint8)
    found = image_distances(bad, real[:30], real[30:], PixelFeatures(), generator=generator)
    values = found.values()
    assert values["fd_pixels"] > 3 * values["fd_pixels_floor"] > 0
    assert values["kd_pixels"] > abs(values["kd_pixels_floor"])
    assert (found.num_samples, found.num_reference) == (40, 30)
    with pytest.raises(InputError, match="at least 2"):
        image_distances(bad[:1], real, real, PixelFeatures())


def test_an_empty_summary_is_refused():
    empty = FeatureSummary(2)
    with pytest.raises(InputError, match="no features"):
        _ = empty.kept
    with pytest.raises(InputError, match="both sides"):
        empty.frechet(empty)
    with pytest.raises(InputError, match="at least one"):
        FeatureSummary.merged([empty])
    with pytest.raises(InputError, match="keep"):
        FeatureSummary(-1)
