import numpy as np

from flowgen.report.series import Series, on_grid, smoothed, thinned


def series(values, steps=None):
    values = np.asarray(values, dtype=float)
    steps = np.arange(1.0, len(values) + 1) if steps is None else np.asarray(steps, dtype=float)
    return Series.of("loss", steps, values)


def test_empty_cells_are_left_out_and_bad_ones_remembered():
    made = series([1.0, np.nan, np.inf, 4.0, -np.inf])
    assert made.steps.tolist() == [1, 4]
    assert made.bad.tolist() == [3, 5]
    assert made.last == 4.0
    assert np.isnan(series([]).last)


def test_of_a_step_written_twice_the_later_row_counts():
    made = series([1.0, 2.0, 3.0, 20.0, 30.0], [10, 20, 30, 20, 30])
    assert made.steps.tolist() == [10, 20, 30]
    assert made.values.tolist() == [1.0, 20.0, 30.0]


def test_thinning_keeps_ends_and_extremes_and_is_small():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(100_000)
    values[54_321], values[7] = 50.0, -50.0
    thin = thinned(series(values))
    assert len(thin) <= 802
    assert {1.0, 100_000.0, 54_322.0, 8.0} <= set(thin.steps.tolist())
    assert (np.diff(thin.steps) > 0).all()
    assert set(thin.values.tolist()) <= set(values.tolist())
    assert thinned(series(values)).steps.tolist() == thin.steps.tolist()


def test_thinning_covers_uneven_steps_evenly():
    steps = np.concatenate([np.arange(1, 5001), np.linspace(6000, 100_000, 50)])
    thin = thinned(series(np.sin(steps), steps), buckets=100)
    assert set(np.linspace(6000, 100_000, 50).tolist()) <= set(thin.steps.tolist())


def test_short_series_stay_whole():
    made = series([3.0, 1.0, 2.0])
    assert thinned(made) is made


def test_smoothing_keeps_lines_and_does_not_lag():
    line = series(2.0 * np.arange(200) + 5)
    np.testing.assert_allclose(smoothed(line, 0.1).values, line.values, rtol=1e-12)
    bump = series(np.exp(-(((np.arange(201) - 100) / 10.0) ** 2)))
    assert smoothed(bump, 0.1).values.argmax() == 100


def test_smoothing_is_the_mean_of_the_window():
    made = smoothed(series([1.0, 5.0, 3.0, 7.0, 100.0]), 0.4)
    np.testing.assert_allclose(made.values, [1, 3, 5, 110 / 3, 100])
    assert smoothed(series([1.0, 2.0]), 0.1).values.tolist() == [1.0, 2.0]


def test_means_on_a_grid():
    means = on_grid(series([1.0, 3.0, 10.0], [1, 2, 9]), np.array([0.0, 3.0, 6.0, 9.0]))
    assert means[0] == 2.0
    assert np.isnan(means[1])
    assert means[2] == 10.0
