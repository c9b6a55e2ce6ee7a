"""A fitted path as a picture: what the data let guess, the coefficients, the energies."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flowgen.paths import ErrorCurve, Schedule
from flowgen.pipeline import atomic

_NUM_POINTS = 301


def save_kinetic_plot(
    curve: ErrorCurve,
    schedules: Mapping[str, Schedule],
    energies: Mapping[str, float],
    path: Path,
    *,
    upper: ErrorCurve | None = None,
    title: str = "",
) -> None:
    """Write three panels as PNG: separation of the data, alpha and sigma, kinetic energies.

    Args:
        curve: The error of the data.
        schedules: By name, at most four, each in a style of its own; the first is solid.
        energies: Kinetic energy per dimension by name, as bars.
        path: Of the file.
        upper: Where the error may be as large as this, a band is drawn.
        title: Above the panels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.6, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _separation(left, curve, upper)
    _coefficients(middle, schedules)
    names = list(energies)
    bars = right.barh(names, list(energies.values()), color=["C0"] + ["0.7"] * (len(names) - 1))
    right.bar_label(bars, fmt="%.3g", fontsize=8, padding=2)
    right.invert_yaxis()
    right.margins(x=0.15)
    right.set_title("kinetic energy per dimension", fontsize=9)
    for axes in (left, middle, right):
        axes.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=9)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _separation(axes: Any, curve: ErrorCurve, upper: ErrorCurve | None) -> None:
    middle = -math.log10(math.sqrt(curve.variance))
    snr = torch.logspace(middle - 1.5, middle + 1.5, _NUM_POINTS, dtype=torch.float64)
    shown = (curve.snr >= snr[0]) & (curve.snr <= snr[-1])
    axes.plot(snr, curve.separation(snr), lw=1.2, label="data")
    raw = 1 - curve.mmse[shown] / curve.variance
    error = curve.stderr[shown] / curve.variance
    axes.errorbar(curve.snr[shown], raw, error, fmt="o", ms=2.5, lw=1, color="C0")
    if upper is not None:
        low, high = upper.separation(snr), curve.separation(snr)
        axes.fill_between(snr, low, high, alpha=0.25, lw=0, label="not told by the points")
    gaussian = 1 - curve.linear(snr) / curve.variance
    axes.plot(snr, gaussian, ls="--", lw=1, color="0.4", label="Gaussian")
    axes.set_xscale("log")
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel("alpha / sigma", fontsize=8)
    axes.set_title("lambda: share of the variance that is known", fontsize=9)
    axes.legend(fontsize=8)


def _coefficients(axes: Any, schedules: Mapping[str, Schedule]) -> None:
    for (name, schedule), style in zip(schedules.items(), ("-", "--", "-.", ":"), strict=False):
        t = torch.linspace(*schedule.domain, _NUM_POINTS, dtype=torch.float64)
        c = schedule(t)
        for value, color, symbol in ((c.alpha, "C0", "alpha"), (c.sigma, "C1", "sigma")):
            axes.plot(t, value, ls=style, lw=1.2, color=color, label=f"{symbol}, {name}")
    axes.set_xlabel("t", fontsize=8)
    axes.set_title("coefficients", fontsize=9)
    axes.legend(fontsize=6, ncols=2)
