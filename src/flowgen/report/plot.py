"""The frame of a plot: axes with labels as text, curves as SVG that stretches to any width.

The SVG has a square of 1000 units and no aspect ratio of its own, strokes keep their width; labels
and markers are text placed by percentages. So a plot is as legible on a telephone as on a wall.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowgen.report.formats import tick
from flowgen.report.html import Markup, element
from flowgen.report.scales import Scale

NOTHING = Markup()
"""No markup."""

SIZE = 1000.0
"""Side of the SVG's square."""


def plot(
    x: Scale,
    y: Scale,
    drawing: Markup,
    overlays: Markup = NOTHING,
    *,
    label: str,
    x_label: str = "step",
    x_ticks: Sequence[float] | None = None,
    whole: bool = False,
    name: str = "",
) -> Markup:
    """Return a plot with its axes.

    Args:
        x: Horizontal axis.
        y: Vertical axis.
        drawing: Content of the SVG, in its square.
        overlays: HTML placed by percentages over it.
        label: What a person who does not see the plot is told.
        x_label: Name of the horizontal axis.
        x_ticks: Values with a label; None chooses round ones.
        whole: Label only whole numbers of the vertical axis.
        name: Which of several plots of one figure this is, e.g. ``log``.
    """
    xs = x.ticks() if x_ticks is None else list(x_ticks)
    ys = [value for value in y.ticks() if not whole or value == int(value)]
    lines = "".join(
        f'<path class="grid" d="M0 {SIZE * (1 - y.at(value)):.1f}H{SIZE:.0f}"/>' for value in ys
    )
    svg = f'<svg viewBox="0 0 {SIZE:.0f} {SIZE:.0f}" preserveAspectRatio="none" aria-hidden="true">'
    return element(
        "div",
        {"class": "plot", "data-plot": name, "data-axes": _axes(x, y)},
        element(
            "div",
            {"class": "y-axis", "aria-hidden": "true"},
            *(element("span", {"style": f"top:{100 * (1 - y.at(v)):.2f}%"}, tick(v)) for v in ys),
        ),
        element(
            "div",
            {"class": "area", "tabindex": "0", "role": "img", "aria-label": label},
            Markup(f"{svg}{lines}{drawing}</svg>"),
            overlays,
        ),
        element(
            "div",
            {"class": "x-axis", "aria-hidden": "true"},
            *(element("span", {"style": f"left:{100 * x.at(v):.2f}%"}, tick(v)) for v in xs),
            element("em", {}, x_label),
        ),
    )


def curve(x: Scale, y: Scale, steps: np.ndarray, values: np.ndarray, style: str) -> Markup:
    """Return a line through points; a single point is a dot.

    Args:
        x: Horizontal axis.
        y: Vertical axis.
        steps: Shape ``(n,)``.
        values: Shape ``(n,)``.
        style: Classes of the line.
    """
    points = _points(x.place(steps), y.place(values))
    if len(points) == 1:
        return Markup(f'<path class="line dot {style}" d="M{points[0]}h0"/>')
    return Markup(f'<path class="line {style}" d="M{"L".join(points)}"/>') if points else Markup()


def band(
    x: Scale, y: Scale, steps: np.ndarray, low: np.ndarray, high: np.ndarray, style: str
) -> Markup:
    """Return the area between two curves over the same steps."""
    there = _points(x.place(steps), y.place(high))
    back = _points(x.place(steps)[::-1], y.place(low)[::-1])
    return Markup(f'<path class="band {style}" d="M{"L".join([*there, *back])}Z"/>')


def level(y: Scale, value: float) -> Markup:
    """Return a dashed line across the plot."""
    return Markup(f'<path class="level" d="M0 {SIZE * (1 - y.at(value)):.1f}H{SIZE:.0f}"/>')


def upright(x: Scale, step: float) -> Markup:
    """Return a dotted line from top to bottom."""
    return Markup(f'<path class="mark" d="M{SIZE * x.at(step):.1f} 0V{SIZE:.0f}"/>')


def hover(curves: Sequence[tuple[str, str, np.ndarray, np.ndarray]], unit: str, word: str) -> str:
    """Return what the page's script shows beside the pointer, as JSON.

    Args:
        curves: Label, classes, steps and values of each.
        unit: Of the values.
        word: Name of the horizontal axis.
    """
    content: Mapping[str, Any] = {
        "unit": unit,
        "word": word,
        "curves": [
            {"label": label, "style": style, "x": short(steps), "y": short(values)}
            for label, style, steps, values in curves
        ],
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _axes(x: Scale, y: Scale) -> str:
    return json.dumps([[*short(np.array([s.low, s.high]), 9), int(s.log)] for s in (x, y)])


def short(values: np.ndarray, digits: int = 5) -> list[float | int]:
    """Return finite values as numbers with few digits, for JSON."""
    return [
        int(value) if value == int(value) else float(f"{value:.{digits}g}")
        for value in values.tolist()
    ]


def _points(across: np.ndarray, up: np.ndarray) -> list[str]:
    pairs = zip((SIZE * across).tolist(), (SIZE * (1 - up)).tolist(), strict=True)
    return [f"{a:.1f} {b:.1f}" for a, b in pairs]


def placed(x: float, y: float, name: str, *children: str | None) -> Markup:
    """Return text at a point of the plot.

    Args:
        x: Share of the width, from the left.
        y: Share of the height, from the bottom.
        name: Its class.
        children: The text.
    """
    style = f"left:{100 * x:.2f}%;top:{100 * (1 - y):.2f}%"
    return element("span", {"class": name, "style": style, "aria-hidden": "true"}, *children)


def legend(entries: Sequence[tuple[str, str, str]]) -> Markup:
    """Return a legend of ``(classes, glyph, text)``."""
    return element(
        "ul",
        {"class": "legend"},
        *(
            element("li", {}, element("i", {"class": style, "aria-hidden": "true"}, glyph), text)
            for style, glyph, text in entries
        ),
    )
