import numpy as np
import pytest

from flowgen.report.metrics_file import read_metrics


def read(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_bytes(text.encode())
    return read_metrics(path)


def test_columns_by_name_in_any_order(tmp_path):
    found = read(tmp_path, "loss,epoch,step,lr\n0.5,0,10,1e-3\n0.4,0,20,\n")
    assert list(found) == ["loss", "lr"]
    assert found["loss"].steps.tolist() == [10, 20]
    assert found["loss"].values.tolist() == [0.5, 0.4]
    assert found["lr"].steps.tolist() == [10]


def test_values_that_are_not_finite_are_not_those_that_are_missing(tmp_path):
    found = read(tmp_path, "step,loss\n1,NaN\n2,\n3,inf\n4,-Infinity\n5,0.5\n")
    assert found["loss"].bad.tolist() == [1, 3, 4]
    assert found["loss"].values.tolist() == [0.5]


@pytest.mark.parametrize("torn", ["30,0.", "30,0.25", "3", "30", "30,0.25,7\n", "\n", ",\n"])
def test_a_half_written_line_is_left_out(tmp_path, torn):
    found = read(tmp_path, f"step,loss\n10,0.5\n20,0.4\n{torn}")
    assert found["loss"].steps.tolist() == [10, 20]


@pytest.mark.parametrize(
    "text", ["", "step,loss", "step,loss\n", "a,b\n1,2\n", "\x00\xff\n1", "step\n1\n", "\n\n"]
)
def test_files_without_curves(tmp_path, text):
    assert all(len(series) == 0 for series in read(tmp_path, text).values())


def test_no_file(tmp_path):
    assert read_metrics(tmp_path / "metrics.csv") == {}


def test_words_and_windows_line_ends(tmp_path):
    found = read(tmp_path, 'step,"loss, all",note\r\n1,0.5,banana\r\n2,0.25,\r\n')
    assert found["loss, all"].values.tolist() == [0.5, 0.25]
    assert len(found["note"]) == 0


def test_rows_of_another_width_are_left_out(tmp_path):
    # A header that grew while the run went on.
    found = read(tmp_path, "step,loss,lr\n1,0.5\n2,0.4,0.1\n")
    assert found["loss"].steps.tolist() == [2]


def test_a_long_file_is_read_right(tmp_path):
    values = np.random.default_rng(0).random(100_000)
    rows = "".join(f"{i + 1},{value:.9g},,1.5\n" for i, value in enumerate(values))
    found = read(tmp_path, f"step,loss,eval/fd,lr\n{rows}")
    np.testing.assert_allclose(found["loss"].values, values, rtol=1e-8)
    assert found["loss"].steps[-1] == 100_000
    assert len(found["eval/fd"]) == 0
