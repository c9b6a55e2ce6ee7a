"""Figures over steps: one value with its variants, and a stack of parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowgen.report.formats import number
from flowgen.report.html import Markup, element, joined
from flowgen.report.plot import band, curve, hover, legend, level, placed, plot, upright
from flowgen.report.scales import Scale
from flowgen.report.series import Series, on_grid, smoothed, thinned

MOST_MARKS = 40
"""Most marks of values that were not finite, and of resumes, on one plot."""

SMOOTHINGS = (("none", "Raw", 0.0), ("light", "Light", 0.02), ("strong", "Strong", 0.1))
"""Name, label and share of the points in the window of each smoothing."""


@dataclass(frozen=True)
class Context:
    """What all figures over steps share.

    Args:
        last: The newest step; the axes end there.
        resumes: Steps at which training was resumed.
    """

    last: float
    resumes: Sequence[int] = ()

    @property
    def x(self) -> Scale:
        """The horizontal axis."""
        return Scale(0.0, float(max(self.last, 1)))

    def marks(self) -> Markup:
        """Return the lines at which training was resumed."""
        return joined(upright(self.x, step) for step in self.resumes[-MOST_MARKS:])


def summary(series: Series, unit: str = "", extremes: str = "range") -> str:
    """Return a curve in words: its newest value, and its range or its lowest value.

    Args:
        series: The curve; it may be empty.
        unit: Of the values.
        extremes: ``range`` or ``lowest``.
    """
    after = f" {unit}" if unit else ""
    words = []
    if len(series):
        low, high = series.values.argmin(), series.values.max()
        words.append(f"latest {number(series.last)}{after}")
        if extremes == "lowest":
            at = number(series.steps[low])
            words.append(f"lowest {number(series.values[low])} at step {at}")
        elif len(series) > 1:
            words.append(f"range {number(series.values[low])} to {number(high)}{after}")
    if len(series.bad):
        count = len(series.bad)
        words.append(f"{count} value{'s' if count > 1 else ''} not finite")
    return " · ".join(words)


def figure(title: str, about: str, *content: str | None, kind: str = "", data: str = "") -> Markup:
    """Return a titled figure; ``data`` is what its plots show beside the pointer."""
    caption = element("figcaption", {}, element("h3", {}, title), element("p", {}, about))
    attributes = {"class": f"figure {kind}".strip(), "data-hover": data or None}
    return element("figure", attributes, caption, *content)


def simple_chart(
    series: Series,
    title: str,
    context: Context,
    *,
    unit: str = "",
    log: bool = False,
    zero: bool = False,
    whole: bool = False,
    floor: Series | None = None,
) -> Markup:
    """Return a small figure of one value.

    Args:
        series: The value.
        title: What it is.
        context: Of the run.
        unit: Of the value.
        log: Logarithmic, where all values are positive.
        zero: Let the axis begin at 0.
        whole: The value is a count.
        floor: What real data reach, drawn dashed.
    """
    drawn = thinned(series)
    floors = thinned(floor) if floor is not None and len(floor) else None
    parts = [("value", "c1", drawn)] + ([("floor", "c-floor", floors)] if floors else [])
    values = np.concatenate([part.values for _, _, part in parts])
    about = summary(series, unit)
    if floors is not None:
        about += f" · floor {number(floors.last)}"
    if not len(values):
        return figure(title, about or "no finite value yet", kind="small empty")
    y = Scale.around(values, log=log and bool((values > 0).all()), zero=zero)
    x = context.x
    drawing = [curve(x, y, part.steps, part.values, style) for _, style, part in parts]
    if floors is not None and len(floors) == 1:
        drawing.append(level(y, floors.last))
    overlay = bad_marks(series, x)
    inside = joined([context.marks(), *drawing])
    made = plot(x, y, inside, overlay, label=f"{title}: {about}", whole=whole)
    data = hover(
        [(name, style, part.steps, part.values) for name, style, part in parts], unit, "step"
    )
    names = legend([("c1", "━", "value"), ("c-floor", "┅", "floor: real data")]) if floors else None
    return figure(title, about, made, names, kind="small", data=data)


def loss_chart(series: Series, context: Context) -> Markup:
    """Return the figure of the loss, linear or logarithmic, with three strengths of smoothing."""
    about = summary(series, extremes="lowest")
    if not len(series):
        return figure("Loss", about or "no finite value yet", kind="empty")
    variants = [(name, thinned(smoothed(series, share))) for name, _, share in SMOOTHINGS]
    raw = variants[0][1]
    x = context.x
    plots = []
    scales = ("linear", "log") if bool((series.values > 0).all()) else ("linear",)
    for scale in scales:
        y = Scale.around(raw.values, log=scale == "log")
        lines = [
            curve(x, y, part.steps, part.values, "raw" if name == "none" else f"c1 smooth-{name}")
            for name, part in variants
        ]
        overlay = joined([bad_marks(series, x), resume_labels(context)])
        drawing = joined([context.marks(), *lines])
        plots.append(plot(x, y, drawing, overlay, label=f"Loss, {scale}: {about}", name=scale))
    controls = element(
        "div",
        {"class": "controls"},
        choice("loss-smoothing", "Smoothing", [(n, label) for n, label, _ in SMOOTHINGS], "light"),
        choice("loss-scale", "Scale", [("linear", "Linear"), ("log", "Log")], "linear")
        if len(scales) > 1
        else None,
    )
    shown = [
        ("loss", "raw", raw),
        *((f"smoothed ({name})", f"c1 smooth-{name}", part) for name, part in variants[1:]),
    ]
    data = hover([(n, style, p.steps, p.values) for n, style, p in shown], "", "step")
    return figure("Loss", about, controls, *plots, kind="wide loss", data=data)


def choice(name: str, label: str, options: Sequence[tuple[str, str]], chosen: str) -> Markup:
    """Return a row of buttons of which one is pressed; it works without a script."""
    buttons = [
        element(
            "label",
            {},
            element(
                "input",
                {"type": "radio", "name": name, "value": value, "checked": value == chosen},
            ),
            element("span", {}, text),
        )
        for value, text in options
    ]
    heading = element("legend", {}, label)
    return element("fieldset", {"class": "choice"}, heading, *buttons)


def bad_marks(series: Series, x: Scale) -> Markup:
    """Return a cross at the top of the plot at each step whose value was not finite."""
    steps = series.bad[-MOST_MARKS:]
    inside = [step for step in steps.tolist() if x.low <= step <= x.high]
    return joined(placed(x.at(step), 1.0, "bad", "✕") for step in inside)


def resume_labels(context: Context) -> Markup:
    """Return the word at each step at which training was resumed."""
    recent = list(context.resumes)[-3:]
    return joined(placed(context.x.at(step), 1.0, "resumed", "resumed") for step in recent)


def stack_chart(
    parts: Sequence[tuple[str, Series]], title: str, context: Context, *, unit: str
) -> Markup:
    """Return the parts of a whole over steps, each above the one before, and their mean shares.

    Args:
        parts: Label and values of each, at least one not empty.
        title: What the whole is.
        context: Of the run.
        unit: Of the values.
    """
    filled = [(label, series) for label, series in parts if len(series)]
    logged = np.unique(np.concatenate([series.steps for _, series in filled]))
    first = float(logged[0] - (logged[1] - logged[0] if len(logged) > 1 else 1))
    edges = np.linspace(first, float(logged[-1]), min(len(logged), 240) + 1)
    rows = np.nan_to_num(
        np.array([on_grid(series, np.nextafter(edges, np.inf)) for _, series in filled])
    )
    steps = edges[1:]
    tops = np.cumsum(rows, axis=0)
    x = context.x
    y = Scale.around(tops[-1], zero=True)
    drawing, below = [], np.zeros_like(steps)
    if len(steps) == 1:  # a single row has no width to fill
        steps, rows = np.array([0.0, steps[0]]), rows.repeat(2, axis=1)
        tops, below = tops.repeat(2, axis=1), np.zeros(2)
    for i, top in enumerate(tops):
        drawing.append(band(x, y, steps, below, top, f"c{i % 6 + 1}"))
        below = top
    means = [float(series.values.mean()) for _, series in filled]
    whole = sum(means) or 1.0
    about = f"mean {number(whole, 3)} {unit} · {filled[int(np.argmax(means))][0]} takes most"
    entries = [
        (f"c{i % 6 + 1}", "■", f"{label} {number(mean, 3)} {unit} ({100 * mean / whole:.0f} %)")
        for i, ((label, _), mean) in enumerate(zip(filled, means, strict=True))
    ]
    made = plot(x, y, joined([*drawing, context.marks()]), label=f"{title}: {about}")
    data = hover(
        [(label, f"c{i % 6 + 1} flat", steps, rows[i]) for i, (label, _) in enumerate(filled)],
        unit,
        "step",
    )
    # The legend reads from top to bottom as the areas lie.
    return figure(title, about, made, legend(entries[::-1]), kind="wide stack", data=data)
