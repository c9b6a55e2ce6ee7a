"""What was measured: tables with floors, figures over training, quality against cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowgen.report.charts import Context, simple_chart
from flowgen.report.formats import number
from flowgen.report.html import Markup, element, section
from flowgen.report.run_files import Evaluation, Run
from flowgen.report.series import Series
from flowgen.report.sweep import sweep_figures

FLOOR = "_floor"
"""End of the name of a figure that real data reach."""


def evaluation_section(run: Run) -> Markup | None:
    """Return the section of evaluations, None if nothing was measured."""
    newest = [e for e in run.evaluations[-1:] if e.figures]
    tables = [
        _table(e, "flowgen evaluate" if e in run.final else "during training")
        for e in (*run.final, *newest)
        if e.figures
    ]
    curves = _curves(run)
    rows = [row for e in (*run.final, *run.evaluations) for row in e.rows]
    sweeps = sweep_figures(rows)
    if not (tables or curves or sweeps):
        return None
    note = (
        "A distance is read beside its floor: what real training data reach against the same "
        "held-out data."
    )
    charts = element("div", {"class": "multiples"}, *curves) if curves else None
    wide = element("div", {"class": "multiples"}, *sweeps) if sweeps else None
    heading = element("h3", {"class": "part"}, "Quality against cost") if sweeps else None
    over = element("h3", {"class": "part"}, "Over training") if curves else None
    return section(
        "evaluation",
        "Evaluation",
        element("p", {"class": "note"}, note),
        element("div", {"class": "tables"}, *tables),
        over,
        charts,
        heading,
        wide,
    )


def _is_measure(value: Any) -> bool:
    return isinstance(value, float)


def _table(evaluation: Evaluation, made: str) -> Markup:
    rows: list[Markup] = []
    for group, values in evaluation.figures.items():
        rows.append(
            element(
                "tr",
                {"class": "group"},
                element("th", {"colspan": 3, "scope": "rowgroup"}, str(group)),
            )
        )
        notes = []
        for name, value in values.items():
            if str(name).endswith(FLOOR) and str(name).removesuffix(FLOOR) in values:
                continue
            if not _is_measure(value):
                notes.append(f"{name} {number(value) if _is_count(value) else value}")
                continue
            floor = values.get(f"{name}{FLOOR}")
            rows.append(
                element(
                    "tr",
                    {},
                    element("th", {"scope": "row"}, str(name)),
                    element("td", {}, number(value)),
                    element("td", {}, number(floor) if isinstance(floor, (int, float)) else "–"),
                )
            )
        if notes:
            text = " · ".join(notes)
            rows.append(element("tr", {"class": "about"}, element("td", {"colspan": 3}, text)))
    step = "" if evaluation.step is None else f"step {number(evaluation.step)}, "
    head = element(
        "tr",
        {},
        element("th", {"scope": "col"}, "measure"),
        element("th", {"scope": "col"}, "value"),
        element("th", {"scope": "col"}, "floor"),
    )
    return element(
        "div",
        {"class": "table"},
        element(
            "table",
            {},
            element("caption", {}, f"{step}{made}"),
            element("thead", {}, head),
            element("tbody", {}, *rows),
        ),
        _protocol(evaluation.protocol),
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _protocol(protocol: Mapping[str, Any]) -> Markup | None:
    if not protocol:
        return None
    entries = []
    for key, value in protocol.items():
        entries += [element("dt", {}, str(key)), element("dd", {}, str(value))]
    return element(
        "details",
        {"class": "protocol"},
        element("summary", {}, "Protocol"),
        element("dl", {}, *entries),
    )


def _curves(run: Run) -> list[Markup]:
    series = _over_steps(run)
    last = max([float(s.steps[-1]) for s in series.values() if len(s)], default=1.0)
    context = Context(max(last, float(run.step)), run.resumes)
    return [
        simple_chart(found, name, context, floor=series.get(f"{name}{FLOOR}"))
        for name, found in series.items()
        if len(found) > 1 and not (name.endswith(FLOOR) and name.removesuffix(FLOOR) in series)
    ]


def _over_steps(run: Run) -> dict[str, Series]:
    """Return the measured values over steps: of ``metrics.csv``, and what only the JSON has."""
    found = {
        name.removeprefix("eval/"): series
        for name, series in run.metrics.items()
        if name.startswith("eval/") and len(series)
    }
    points: dict[str, list[tuple[int, float]]] = {}
    for evaluation in run.evaluations:
        for group, values in evaluation.figures.items():
            for name, value in values.items():
                known = {str(name), f"{group}/{name}"} & set(found)
                if _is_measure(value) and not known and evaluation.step is not None:
                    points.setdefault(str(name), []).append((evaluation.step, value))
    for name, pairs in points.items():
        steps, values = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
        values[np.isnan(values)] = np.inf  # written, but not finite
        found[name] = Series.of(name, steps, values)
    return found
