"""Quality against the number of evaluations as a picture: a panel a figure, a curve a sampler."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowgen.core import InputError
from flowgen.pipeline import atomic

COST = "nfe"
ASIDE = ("sampler", "num_steps", COST, "network_rows", "seconds")
"""Columns that are no figures of quality."""

_FLOOR = "_floor"
_MARKERS = "osD^vPX*"
_COLUMNS = 3


def figures_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the figures of quality that rows hold, without their floors."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if name not in ASIDE and not name.endswith(_FLOOR)]


def save_plot(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str = "") -> None:
    """Write figures against evaluations as PNG, the floors as dashed lines.

    Args:
        rows: Of a sweep.
        path: Of the file.
        title: Above the panels.

    Raises:
        InputError: If the rows hold no figure.
    """
    from matplotlib.figure import Figure

    names = figures_of(rows)
    if not names:
        raise InputError("there is nothing to draw: the rows hold no figure")
    columns = min(_COLUMNS, len(names))
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for name, axes in zip(names, panels, strict=False):
        _panel(axes, rows, name)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _panel(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    usable = [row for row in rows if math.isfinite(row.get(name, math.nan))]
    for i, sampler in enumerate(dict.fromkeys(row["sampler"] for row in usable)):
        points = sorted((row[COST], row[name]) for row in usable if row["sampler"] == sampler)
        costs, values = zip(*points, strict=True)
        axes.plot(costs, values, marker=_MARKERS[i % len(_MARKERS)], ms=4, lw=1.2, label=sampler)
    floors = [row[name + _FLOOR] for row in usable if name + _FLOOR in row]
    if floors:
        axes.axhline(floors[-1], ls="--", lw=1, color="0.4", label="floor")
    values = [row[name] for row in usable]
    if values and min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("evaluations", fontsize=8)
    axes.set_title(name, fontsize=9)
    axes.tick_params(labelsize=8)
