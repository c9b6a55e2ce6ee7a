import numpy as np

from flowgen.report.charts import Context, stack_chart
from flowgen.report.plot import band, curve, level, placed, plot, short, upright
from flowgen.report.scales import Scale
from flowgen.report.series import Series
from run_folders import Page

X, Y = Scale(0, 10), Scale(0, 4)


def test_up_is_up_and_right_is_later():
    line = curve(X, Y, np.array([0.0, 5.0]), np.array([0.0, 3.0]), "c1")
    assert 'd="M0.0 1000.0L500.0 250.0"' in line
    assert 'd="M500.0 250.0h0"' in curve(X, Y, np.array([5.0]), np.array([3.0]), "c1")
    assert curve(X, Y, np.array([]), np.array([]), "c1") == ""
    assert 'd="M0 250.0H1000"' in level(Y, 3.0)
    assert 'd="M500.0 0V1000"' in upright(X, 5.0)
    assert "left:25.00%;top:10.00%" in placed(0.25, 0.9, "bad", "x")


def test_a_band_goes_there_and_back():
    made = band(X, Y, np.array([0.0, 10.0]), np.array([0.0, 1.0]), np.array([2.0, 4.0]), "c2")
    assert 'd="M0.0 500.0L1000.0 0.0L1000.0 750.0L0.0 1000.0Z"' in made


def test_labels_stand_where_their_values_are():
    page = Page(plot(X, Y, level(Y, 1.0), label="a plot", x_ticks=[0, 5]))
    styles = [a["style"] for a in page.all("span")]
    assert styles[:2] == ["top:100.00%", "top:75.00%"]
    assert styles[-2:] == ["left:0.00%", "left:50.00%"]
    assert page.all("div", "plot")[0]["data-axes"] == "[[0, 10, 0], [0, 4, 0]]"


def test_counts_have_whole_labels():
    page = Page(plot(X, Scale(0, 1.05), level(Y, 1.0), label="a plot", whole=True))
    assert [text for text in page.texts if "." in text] == []


def test_parts_lie_above_each_other():
    steps = np.array([1.0, 2.0, 3.0])
    parts = [(name, Series(name, steps, np.full(3, v))) for name, v in (("a", 1.0), ("b", 3.0))]
    page = Page(stack_chart(parts, "Parts", Context(3.0), unit="ms"))
    bands = [a["d"] for a in page.all("path", "band")]
    ends = [[float(p.split(" ")[1]) for p in d.strip("MZ").split("L")] for d in bands]
    top, bottom = 1000 * (1 - 4 / 4.2), 1000 * (1 - 1 / 4.2)  # the axis leaves 5% of room
    np.testing.assert_allclose(ends[0], [bottom] * 3 + [1000] * 3, atol=0.1)
    np.testing.assert_allclose(ends[1], [top] * 3 + [bottom] * 3, atol=0.1)
    assert "b 3 ms (75 %)" in page.text


def test_one_row_of_parts_is_a_picture_too():
    parts = [("a", Series("a", np.array([5.0]), np.array([2.0])))]
    page = Page(stack_chart(parts, "Parts", Context(5.0), unit="ms"))
    assert "a 2 ms (100 %)" in page.text


def test_short_numbers():
    assert short(np.array([1.0, 0.123456789, -2e-9])) == [1, 0.12346, -2e-09]
