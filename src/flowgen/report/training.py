"""How training went: loss, loss along the path, speed, and everything else that was logged."""

from collections.abc import Mapping

from flowgen.report.charts import Context, loss_chart, simple_chart, stack_chart
from flowgen.report.formats import number
from flowgen.report.heat import bin_figure, time_bins
from flowgen.report.html import Markup, element, section
from flowgen.report.run_files import Run
from flowgen.report.series import Series

PHASES: Mapping[str, str] = {
    "ms/data": "data",
    "ms/coupling": "coupling",
    "ms/forward": "forward",
    "ms/backward": "backward",
    "ms/optimizer": "optimizer",
}
"""Columns of the parts of a step, and their labels, in the order they happen."""

ELSEWHERE = ("ms/", "loss/t0", "residual/t", "eval/")
"""Beginnings of the columns that have figures of their own, or are too many to draw."""

MOST_OTHERS = 24
"""Most figures of values that flowgen itself does not know."""


def training_section(run: Run) -> Markup:
    """Return the section of curves; it says so where nothing has been logged yet."""
    metrics = run.metrics
    if not any(len(series) or len(series.bad) for series in metrics.values()):
        text = "Nothing has been logged yet: metrics.csv is missing or empty."
        return section("training", "Training", element("p", {"class": "note"}, text))
    context = Context(
        max((s.steps[-1] for s in metrics.values() if len(s)), default=1.0), run.resumes
    )
    known = {"loss", "grad_norm", "lr", "samples_per_second", "skipped"}
    bins = time_bins(metrics)
    phases = [(label, metrics[name]) for name, label in PHASES.items() if name in metrics]
    phases += [(n[3:], s) for n, s in metrics.items() if n.startswith("ms/") and n not in PHASES]
    others = [
        series
        for name, series in metrics.items()
        if name not in known and not name.startswith(ELSEWHERE) and len(series)
    ]
    content: list[Markup | None] = []
    if "loss" in metrics:
        content.append(loss_chart(metrics["loss"], context))
    if bins:
        content.append(bin_figure(bins, context))
    content.append(element("div", {"class": "multiples"}, *_small(metrics, context)))
    if any(len(series) for _, series in phases):
        content.append(stack_chart(phases, "Time of a step", context, unit="ms"))
    if others:
        content.append(_others(others, context))
    return section("training", "Training", _resumed(run), *content)


def _small(metrics: Mapping[str, Series], context: Context) -> list[Markup]:
    made = []
    if "grad_norm" in metrics:
        made.append(simple_chart(metrics["grad_norm"], "Gradient norm", context, log=True))
    if "lr" in metrics:
        made.append(simple_chart(metrics["lr"], "Learning rate", context, zero=True))
    if "samples_per_second" in metrics:
        rate = metrics["samples_per_second"]
        made.append(simple_chart(rate, "Throughput", context, unit="samples/s", zero=True))
    skipped = metrics.get("skipped")
    if skipped is not None and len(skipped) and skipped.values.max() > 0:
        made.append(simple_chart(skipped, "Skipped steps", context, zero=True, whole=True))
    return made


def _resumed(run: Run) -> Markup | None:
    if not run.resumes:
        return None
    steps = ", ".join(number(step) for step in run.resumes)
    text = f"Trained in {len(run.sessions)} sessions, resumed at step {steps} (dotted lines)."
    return element("p", {"class": "note"}, text)


def _others(others: list[Series], context: Context) -> Markup:
    shown = others[:MOST_OTHERS]
    left = len(others) - len(shown)
    note = element("p", {"class": "note"}, f"{left} more are in metrics.csv.") if left else None
    charts = [simple_chart(series, series.name, context) for series in shown]
    return element(
        "details",
        {"class": "more"},
        element("summary", {}, f"Also logged ({len(others)})"),
        element("div", {"class": "multiples"}, *charts),
        note,
    )
