"""Checks of what a network is given; they read shapes and types only, never values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowgen.core import InputError


def check_positive(**values: int) -> None:
    """Raise unless every named number is a positive integer.

    Raises:
        InputError: Naming the argument and its value.
    """
    for name, value in values.items():
        if isinstance(value, bool) or value < 1:
            raise InputError(f"{name} must be a positive integer, got {value}")


def check_fraction(name: str, value: float) -> None:
    """Raise unless ``value`` lies in ``[0, 1)``.

    Raises:
        InputError: Naming the argument and its value.
    """
    if not 0.0 <= value < 1.0:
        raise InputError(f"{name} must lie in [0, 1), got {value}")


def sample_shape(shape: Sequence[int], *, num_axes: int | None = None) -> tuple[int, ...]:
    """Return ``shape`` as a tuple of positive integers, the shape of one sample.

    Args:
        shape: Axes of one sample, without the batch.
        num_axes: Number of axes the network can treat, or None for any.

    Raises:
        InputError: If an axis is not positive or their number does not fit.
    """
    axes = tuple(int(axis) for axis in shape)
    if not axes or any(axis < 1 for axis in axes):
        raise InputError(f"shape must hold positive sizes, got {axes}")
    if num_axes is not None and len(axes) != num_axes:
        raise InputError(
            f"shape must have {num_axes} axes (channels, height, width), got {axes}; "
            "for vectors take the MLP (model=mlp)"
        )
    return axes


def check_inputs(x: Tensor, t: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Raise unless ``x`` is a batch of states and ``t`` holds one time for each of them.

    Args:
        x: States, must have shape ``(b, *shape)`` and a floating type.
        t: Times, must have shape ``(b,)`` and type float32 or float64.
        shape: Shape of one sample, or None to accept any.

    Raises:
        InputError: Saying which tensor is wrong and what was expected.
    """
    if not x.is_floating_point():
        raise InputError(f"x must be floating, got {x.dtype}: encode the data first")
    if shape is not None and tuple(x.shape[1:]) != shape:
        raise InputError(f"x must have shape (b, {_listed(shape)}), got {tuple(x.shape)}")
    if t.ndim != 1 or t.shape[0] != x.shape[0]:
        raise InputError(f"t must have shape ({x.shape[0]},), got {tuple(t.shape)}")
    if t.dtype not in (torch.float32, torch.float64):
        raise InputError(f"t must be float32 or float64, got {t.dtype}")


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(str(axis) for axis in shape)
