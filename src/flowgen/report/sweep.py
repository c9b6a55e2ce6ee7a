"""Quality against the number of evaluations of the field, a curve for each sampler."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowgen.report.charts import figure
from flowgen.report.formats import number
from flowgen.report.html import Markup, joined
from flowgen.report.plot import curve, hover, legend, level, placed, plot
from flowgen.report.scales import Scale

GLYPHS = "●▲■◆▼✚"
"""Markers of the samplers, so that they differ in more than colour."""

_COSTS = ("nfe", "num_steps")
_FLOOR = "_floor"
_MOST = 6


def sweep_figures(rows: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Return a figure for each metric of a sweep, six at most.

    Args:
        rows: Each with ``nfe`` (or ``num_steps``), perhaps ``sampler``, and metrics.
    """
    cost = next((name for name in _COSTS if any(_positive(row.get(name)) for row in rows)), None)
    if cost is None:
        return []
    usable = [row for row in rows if _positive(row.get(cost))]
    names = list(dict.fromkeys(str(key) for row in usable for key in row))
    metrics = [
        name
        for name in names
        if name not in (*_COSTS, "seed", "step", "seconds", "network_rows")
        and not name.endswith(_FLOOR)
        and sum(_finite(row.get(name)) for row in usable) > 1
    ]
    return [_figure(usable, metric, cost) for metric in metrics[:_MOST]]


def _figure(rows: Sequence[Mapping[str, Any]], metric: str, cost: str) -> Markup:
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if _finite(row.get(metric)):
            point = (float(row[cost]), float(row[metric]))
            curves.setdefault(str(row.get("sampler", metric)), []).append(point)
    floors = [float(row[metric + _FLOOR]) for row in rows if _finite(row.get(metric + _FLOOR))]
    points = np.array([point for pairs in curves.values() for point in pairs])
    x = Scale.around(points[:, 0], log=True)
    heights = np.append(points[:, 1], floors[-1:])
    ratio = heights.max() / heights.min() if (heights > 0).all() else 1.0
    y = Scale.around(heights, log=bool(ratio > 20))
    drawing, marks, shown, entries = [], [], [], []
    for i, (name, pairs) in enumerate(curves.items()):
        steps, values = np.array(sorted(pairs)).T
        style, glyph = f"c{i % 6 + 1}", GLYPHS[i % len(GLYPHS)]
        drawing.append(curve(x, y, steps, values, style))
        marks += [
            placed(x.at(a), y.at(b), f"glyph {style}", glyph)
            for a, b in zip(steps, values, strict=True)
        ]
        shown.append((name, style, steps, values))
        entries.append((style, glyph, name))
    if floors:
        drawing.append(level(y, floors[-1]))
        entries.append(("c-floor", "┅", f"floor {number(floors[-1])}"))
    word = "evaluations of the field" if cost == "nfe" else "steps"
    about = f"{number(float(points[:, 1].min()))} to {number(float(points[:, 1].max()))}"
    ticks = sorted(set(points[:, 0].tolist()))
    ticks = ticks[:: max(1, -(-len(ticks) // 8))]
    label = f"{metric} against {word}: {about}"
    made = plot(x, y, joined(drawing), joined(marks), label=label, x_label=word, x_ticks=ticks)
    return figure(metric, about, made, legend(entries), kind="small", data=hover(shown, "", cost))


def _finite(value: Any) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
    )


def _positive(value: Any) -> bool:
    return _finite(value) and value > 0
