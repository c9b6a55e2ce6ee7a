"""Loss per time bin: a map over steps, and beside it the newest profile as bars."""

import json
import re
from collections.abc import Mapping

import numpy as np

from flowgen.report.charts import Context, figure
from flowgen.report.formats import number, tick
from flowgen.report.html import Markup, element
from flowgen.report.plot import SIZE, short
from flowgen.report.series import Series, on_grid

COLUMNS = 80
"""Most columns of the map; each is the mean of the steps it covers."""

SHADES = 9
"""Shades of the map, equal ratios of loss apart."""

_BIN = re.compile(r"loss/t(\d+(?:\.\d+)?)")


def time_bins(metrics: Mapping[str, Series]) -> list[tuple[float, Series]]:
    """Return the beginning of each time bin and its loss, from noise to data."""
    found = [
        (float(m[1]), s) for name, s in metrics.items() if (m := _BIN.fullmatch(name)) and len(s)
    ]
    return sorted(found, key=lambda item: item[0])


def bin_figure(bins: list[tuple[float, Series]], context: Context) -> Markup:
    """Return the figure of the loss per time bin.

    Args:
        bins: As :func:`time_bins` returns them, at least one.
        context: Of the run.
    """
    logged = np.unique(np.concatenate([series.steps for _, series in bins]))
    count = min(COLUMNS, len(logged))
    edges = np.linspace(0.0, float(max(logged[-1], 1)), count + 1)
    cells = np.array([on_grid(series, np.nextafter(edges, np.inf)) for _, series in bins])
    last = [series.last for _, series in bins]
    labels = _labels([start for start, _ in bins])
    worst, best = int(np.argmax(last)), int(np.argmin(last))
    about = f"latest: highest {number(last[worst], 3)} at t {labels[worst]}"
    about += f", lowest {number(last[best], 3)} at t {labels[best]}"
    data = json.dumps(
        {
            "edges": short(edges),
            "bins": labels,
            "cells": [[None if np.isnan(v) else float(f"{v:.4g}") for v in row] for row in cells],
        },
        separators=(",", ":"),
    )
    shades = _shades(cells)
    high = len(bins)
    width, height = SIZE / count, SIZE / high
    # Neighbouring cells overlap by a hair, or the gaps between them would shimmer.
    rects = "".join(
        f'<rect class="h{shades[i, j]}" x="{j * width:.1f}" y="{(high - 1 - i) * height:.1f}" '
        f'width="{width + 0.8:.1f}" height="{height + 0.8:.1f}"/>'
        for i in range(high)
        for j in range(count)
        if shades[i, j] >= 0
    )
    x = context.x
    ticks = [v for v in x.ticks() if v <= edges[-1]]
    rows = element(
        "div",
        {"class": "y-axis bins", "aria-hidden": "true"},
        *(element("span", {}, label) for label in reversed(labels)),
    )
    area = element(
        "div",
        {
            "class": "area heat",
            "tabindex": "0",
            "role": "img",
            "data-heat": data,
            "aria-label": f"Map of the loss over steps, a row for each time bin; {about}",
        },
        Markup(
            f'<svg viewBox="0 0 {SIZE:.0f} {SIZE:.0f}" preserveAspectRatio="none" '
            f'aria-hidden="true">{rects}</svg>'
        ),
    )
    axis = element(
        "div",
        {"class": "x-axis", "aria-hidden": "true"},
        *(element("span", {"style": f"left:{100 * v / edges[-1]:.2f}%"}, tick(v)) for v in ticks),
        element("em", {}, "step"),
    )
    finite = cells[np.isfinite(cells)]
    key = element(
        "p",
        {"class": "key"},
        f"{number(float(finite.min()), 3)} ",
        *(element("i", {"class": f"h{i}", "aria-hidden": "true"}) for i in range(SHADES)),
        f" {number(float(finite.max()), 3)}",
        element("span", {}, " loss; each shade the same ratio apart"),
    )
    heat = element("div", {"class": "plot heat-plot"}, rows, area, axis)
    both = element("div", {"class": "bin-columns"}, heat, _profile(labels, last))
    return figure(
        "Loss along the path", f"t = 0 is noise, t = 1 is data · {about}", both, key, kind="wide"
    )


def _labels(starts: list[float]) -> list[str]:
    ends = [*starts[1:], 1.0]
    return [f"{a:g}–{b:g}" for a, b in zip(starts, ends, strict=True)]


def _profile(labels: list[str], last: list[float]) -> Markup:
    high = max([abs(value) for value in last if np.isfinite(value)], default=1.0) or 1.0
    rows = [
        element(
            "li",
            {},
            element("span", {"class": "sr"}, f"t {label}: "),
            element(
                "i", {"style": f"width:{max(0.0, 62 * value / high):.1f}%", "aria-hidden": "true"}
            ),
            element("b", {}, number(value, 3)),
        )
        for label, value in zip(reversed(labels), reversed(last), strict=True)
    ]
    heading = element("p", {"class": "profile-title"}, "latest")
    return element("div", {"class": "profile"}, element("ol", {}, *rows), heading)


def _shades(cells: np.ndarray) -> np.ndarray:
    """Return the shade of each cell, -1 where it is empty."""
    known = np.isfinite(cells)
    positive = bool((cells[known] > 0).all())
    values = np.log(np.where(known, cells, 1.0)) if positive else np.where(known, cells, 0.0)
    low, high = values[known].min(), values[known].max()
    place = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
    return np.where(known, np.clip((place * SHADES).astype(int), 0, SHADES - 1), -1)
