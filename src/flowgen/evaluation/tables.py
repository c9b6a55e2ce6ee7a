"""Figures as text."""

from collections.abc import Mapping, Sequence
from typing import Any


def figures_text(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as aligned lines: measure, name, value, floor; reals as four digits."""
    lines = []
    for group, values in figures.items():
        lines.append(group)
        for name, value in values.items():
            if name.removesuffix("_floor") != name and name.removesuffix("_floor") in values:
                continue
            floor = values.get(f"{name}_floor")
            beside = "" if floor is None else f"   floor {shown(floor)}"
            lines.append(f"  {name:<28} {shown(value):<10}{beside}".rstrip())
    return "\n".join(lines)


def rows_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table with aligned columns; a row may lack some."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([shown(row[name]) if name in row else "" for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def shown(value: Any) -> str:
    """Return a value for a table: reals with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
