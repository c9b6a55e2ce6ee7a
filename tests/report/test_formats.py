from datetime import timezone

import pytest

from flowgen.report.formats import clock, duration, megabytes, moment, number, tick


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (400, "400"),
        (12345.0, "12,345"),
        (-3.0, "−3"),
        (0.4123456, "0.4123"),
        (0.99999, "1.000"),
        (9.99996, "10.00"),
        (0.002, "0.002"),
        (1234.567, "1,235"),
        (4.2e-5, "4.2 × 10⁻⁵"),
        (1.23456e9, "1.235 × 10⁹"),
        (-1.23456e-7, "−1.235 × 10⁻⁷"),
        (float("nan"), "not finite"),
        (float("-inf"), "not finite"),
    ],
)
def test_numbers_have_four_digits(value, shown):
    assert number(value) == shown


def test_fewer_digits():
    assert number(20.6543, 3) == "20.7"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.25, "0.25"), (5000, "5000"), (40000, "40k"), (2.5e6, "2.5M"), (3e9, "3G")]
    + [(1e-4, "10⁻⁴"), (5e-4, "5·10⁻⁴"), (-0.5, "−0.5")],
)
def test_ticks_are_short(value, shown):
    assert tick(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "under 1 s"),
        (48.4, "48 s"),
        (60, "1 min"),
        (133, "2 min 13 s"),
        (7500, "2 h 5 min"),
        (3601, "1 h"),
        (90061, "1 d 1 h"),
        (-5, "under 1 s"),
        (float("inf"), "unknown"),
    ],
)
def test_durations_have_two_units(seconds, shown):
    assert duration(seconds) == shown


def test_moments():
    assert clock(moment("2026-03-01T12:05:09Z")) == "1 Mar 2026, 12:05 UTC"
    assert clock(moment("2026-12-31T23:59:00+05:30")) == "31 Dec 2026, 23:59 UTC+05:30"
    assert moment("2026-03-01T12:05:09").tzinfo is timezone.utc
    assert moment(None) is None
    assert moment("yesterday") is None


def test_sizes():
    assert megabytes(1234567) == "1.2 MB"
    assert megabytes(900) == "1 kB"
