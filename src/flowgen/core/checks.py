"""Checks of values (ranges, finiteness), on in tests and with ``debug=true``.

They read the tensor, so they synchronise an accelerator and are left out of compiled graphs; cheap
shape checks are always on and stand where the shapes are used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_enabled: ContextVar[bool] = ContextVar("flowgen_debug_checks", default=False)


@contextmanager
def debug_checks(enabled: bool = True) -> Iterator[None]:
    """Turn value checks on (or off) inside the context."""
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


def check_values(
    name: str, value: Tensor, *, low: float | None = None, high: float | None = None
) -> None:
    """Raise if value checks are on and ``value`` is not finite or leaves ``[low, high]``.

    Raises:
        ValueError: Naming the tensor, the bad value and the rule.
    """
    if torch.compiler.is_compiling() or not _enabled.get():
        return
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {int((~value.isfinite()).sum())} bad values")
    if low is not None and bool((value < low).any()):
        raise ValueError(f"{name} must be >= {low}, got {float(value.min())}")
    if high is not None and bool((value > high).any()):
        raise ValueError(f"{name} must be <= {high}, got {float(value.max())}")
