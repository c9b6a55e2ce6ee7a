"""Means over seeds and Markdown tables of the cells that ``transport_2d.py`` writes."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

FIGURES = {
    "w2": "W2",
    "w2_4": "W2 of 4 Euler steps",
    "npe": "NPE",
    "energy_over_w2_generated": "PE / W2²(source, generated)",
    "averaged_w2": "W2, averaged weights",
    "averaged_w2_4": "W2 of 4 Euler steps, averaged weights",
    "averaged_npe": "NPE, averaged weights",
}
"""The figures that have a table; the summary in the file has more."""

SUMMED = (*FIGURES, "w2_squared", "path_energy", "last_loss", "floor", "cpu_seconds")


def figure(cell: dict[str, Any], name: str, ends: dict[str, float]) -> float:
    """Return a figure of a cell; NPE by the squared distance of both distributions."""
    if name.endswith("npe"):
        return abs(cell[name.replace("npe", "path_energy")] / ends[cell["task"]] - 1)
    return cell[name]


def known(cells: Iterable[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the cells that have a figure: those of older versions lack the averaged ones."""
    return [cell for cell in cells if name.replace("npe", "path_energy") in cell]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation, standard error and number of values."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return {
        "mean": statistics.mean(values),
        "sd": deviation,
        "se": deviation / math.sqrt(len(values)),
        "n": len(values),
    }


def summary(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return mean, deviation and error over seeds of every figure, for each task and method."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for cell in content["cells"]:
        groups.setdefault((cell["task"], cell["library"], cell["method"]), []).append(cell)
    rows = []
    for (task, library, method), cells in groups.items():
        row: dict[str, Any] = {"task": task, "library": library, "method": method}
        for name in SUMMED:
            values = [figure(cell, name, content["ends"]) for cell in known(cells, name)]
            if not values:
                continue
            found = spread(values)
            row[name] = {k: None if math.isnan(v) else round(v, 6) for k, v in found.items()}
        rows.append(row)
    return rows


def tables(
    content: dict[str, Any], tasks: Sequence[str], methods: Sequence[tuple[str, str]]
) -> str:
    """Return one table for each figure, then flowgen less torchcfm; mean and standard error."""
    ends = content["ends"]
    parts = []
    for name, title in FIGURES.items():
        cells = known(content["cells"], name)
        rows = []
        for library, method in methods:
            columns = [
                [figure(c, name, ends) for c in cells if _key(c) == (task, library, method)]
                for task in tasks
            ]
            rows += _row(f"{library}, {method}", columns)
        if name.endswith("w2"):
            floors = [
                list({c["seed"]: c["floor"] for c in cells if c["task"] == t}.values())
                for t in tasks
            ]
            rows += _row("two samples of the data", floors)
        parts.append(_table(title, tasks, rows))
    theirs = [method for library, method in methods if library == "torchcfm"]
    # A method of flowgen beside that of torchcfm which its name begins with.
    pairs = [(m, o) for m in theirs for lib, o in methods if lib == "flowgen" and o.startswith(m)]
    compared = {
        f"{title}, flowgen less torchcfm, seed by seed": (name, name)
        for name, title in FIGURES.items()
        if name != "energy_over_w2_generated"
    } | {
        f"{FIGURES[name]}, flowgen's averaged weights less torchcfm's last, seed by seed": (
            f"averaged_{name}",
            name,
        )
        for name in ("w2", "w2_4", "npe")
    }
    for title, names in compared.items():
        rows = []
        for method, ours in pairs:
            columns = [_differences(content, names, task, ours, method) for task in tasks]
            rows += _row(ours, columns, "+")
        parts.append(_table(title, tasks, rows))
    return "\n".join(part for part in parts if part)


def _key(cell: dict[str, Any]) -> tuple[str, str, str]:
    return cell["task"], cell["library"], cell["method"]


def _table(title: str, tasks: Sequence[str], rows: Sequence[str]) -> str:
    """Return the table; nothing without rows."""
    head = [f"**{title}**", "", f"| | {' | '.join(tasks)} |", "| --- " * (len(tasks) + 1) + "|"]
    return "\n".join([*head, *rows, ""]) if rows else ""


def _row(name: str, columns: Sequence[Sequence[float]], sign: str = "") -> list[str]:
    """Return a row of the table; none if nothing is known."""
    if not any(columns):
        return []
    return [f"| {name} | " + " | ".join(_told(values, sign) for values in columns) + " |"]


def _told(values: Sequence[float], sign: str) -> str:
    if not values:
        return "-"
    found = spread(values)
    error = "" if math.isnan(found["se"]) else f" ± {found['se']:.3f}"
    return f"{found['mean']:{sign}.3f}{error}"


def _differences(
    content: dict[str, Any], names: tuple[str, str], task: str, ours: str, theirs: str
) -> list[float]:
    """Return the differences of the seeds that both have: weights, batches, points are the same.

    ``names`` are the figures of flowgen's method and of torchcfm's.
    """
    of_seed = [
        {
            cell["seed"]: figure(cell, name, content["ends"])
            for cell in known(content["cells"], name)
            if _key(cell) == (task, library, method)
        }
        for library, method, name in (("flowgen", ours, names[0]), ("torchcfm", theirs, names[1]))
    ]
    return [of_seed[0][seed] - of_seed[1][seed] for seed in of_seed[0] if seed in of_seed[1]]
