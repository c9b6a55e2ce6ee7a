"""What given samples are, and what is wanted instead."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from flowgen.core import Condition
from flowgen.models import Conditioners
from flowgen.pipeline.pipeline import Pipeline

Rows = dict[str, Tensor] | None
"""Conditions of some rows by name; None of an unconditional model."""


def before(pipeline: Pipeline, n: int, was: Condition | None) -> Rows:
    """Return the conditions that describe ``n`` samples, "none" where nothing is said."""
    if pipeline.conditioner is None:
        return None
    if was is None:
        return pipeline.conditioner.null(n, pipeline.device)
    return {name: value.to(pipeline.device) for name, value in was.items()}


def after(pipeline: Pipeline, n: int, known: Rows, asked: Mapping[str, Any]) -> Rows:
    """Return the conditions ``known`` of ``n`` samples, with what is asked for in their place.

    Args:
        pipeline: Whose conditioner makes conditions.
        n: How many samples.
        known: As :func:`before` returns them.
        asked: Entries by name, see :meth:`~flowgen.pipeline.Pipeline.asked`; None asks for nothing.

    Raises:
        InputError: If a name or an entry is unknown.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    found = pipeline.asked(n, cond=given)
    conditioner = pipeline.conditioner
    if conditioner is None or known is None or not given:
        return known
    new = conditioner.rows(found, range(n), pipeline.device)
    wanted = dict(known)
    for kind in given:
        part = conditioner.parts[kind] if isinstance(conditioner, Conditioners) else conditioner
        wanted |= {name: new[name] for name in part.null(1)}
    return wanted


def part(cond: Condition | None, rows: slice) -> Rows:
    """Return the conditions of some rows."""
    return None if cond is None else {name: value[rows] for name, value in cond.items()}
