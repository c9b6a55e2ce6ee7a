import numpy as np
import pytest

from flowgen.report.scales import Scale


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values", [[0.3, 1.7], [5.0], [1e-9, 2e-9], [1e-5, 1e5], [3.999, 4.001], [1.0, 1e12]]
)
def test_values_and_ticks_lie_inside(values, log):
    values = np.array(values)
    scale = Scale.around(values, log=log)
    places = scale.place(values)
    assert (places > 0).all()
    assert (places < 1).all()
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(-1e-9 <= scale.at(tick) <= 1 + 1e-9 for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_round_ticks():
    assert Scale(0, 400).ticks() == [0, 100, 200, 300, 400]
    assert Scale(0.04, 1.06).ticks() == [0.25, 0.5, 0.75, 1.0]
    assert Scale(0.5, 2000, log=True).ticks() == [1, 10, 100, 1000]


def test_zero_is_in_the_picture_where_asked():
    assert Scale.around(np.array([3.0, 4.0]), zero=True).low == 0
    assert Scale.around(np.array([-3.0, -4.0]), zero=True).high >= 0
    assert Scale.around(np.array([0.0, 0.0])).high > 0


def test_log_places_equal_ratios_equally():
    scale = Scale(1, 100, log=True)
    assert scale.at(10) == pytest.approx(0.5)
    assert Scale(0, 10).at(2.5) == 0.25
