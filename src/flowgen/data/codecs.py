"""Codecs: stored samples to what a model sees, and back.

A model works on floats of about unit scale. :class:`Pixels` maps the 256 grey values affinely onto
``[-1, 1]``; :class:`Standardize` maps vectors to zero mean and unit scale; both are invertible (the
first up to rounding), so samples, interpolations and likelihoods can be told in the data's own
units. A codec is a value: no parameters, built again from :meth:`to_config`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgen.core import InputError


@dataclass(frozen=True)
class Pixels:
    """Images: uint8 ``0..255`` to float32 ``[-1, 1]``, ``z = x / 127.5 - 1``."""

    def encode(self, x: Tensor) -> Tensor:
        """Return ``x (b, c, h, w)`` uint8 as float32 in ``[-1, 1]``.

        Raises:
            InputError: If ``x`` is not uint8.
        """
        if x.dtype != torch.uint8:
            raise InputError(f"x must hold uint8 images (0..255), got {x.dtype}")
        return x.float() / 127.5 - 1.0

    def decode(self, z: Tensor) -> Tensor:
        """Return ``z (b, c, h, w)`` clamped to ``[-1, 1]`` and rounded to uint8."""
        return ((z.float().clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)

    def encoded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of what a model sees of a sample of ``shape``: the same."""
        return tuple(shape)

    def log_det(self, shape: Sequence[int]) -> float:
        """Return ``log |det dz/dx|`` for a sample of ``shape``, in nats."""
        return -math.prod(shape) * math.log(127.5)

    def to_config(self) -> dict[str, object]:
        """Return the plain ``_target_`` dict that builds this codec again."""
        return {"_target_": "flowgen.data.Pixels"}


@dataclass(frozen=True)
class Standardize:
    """Vectors: ``z = (x - mean) / std``.

    Args:
        mean: One number, or one for each entry of the first sample axis (coordinate, channel).
        std: The same; positive. One number keeps angles and straight lines.

    Raises:
        InputError: If a value is not finite or a ``std`` is not positive.
    """

    mean: float | Sequence[float]
    std: float | Sequence[float]

    def __post_init__(self) -> None:
        """Store plain floats and tuples, and check them."""
        for name in ("mean", "std"):
            value = getattr(self, name)
            many = isinstance(value, Sequence)
            plain = tuple(float(entry) for entry in value) if many else float(value)
            object.__setattr__(self, name, plain)
            entries = plain if isinstance(plain, tuple) else (plain,)
            if not entries or not all(math.isfinite(entry) for entry in entries):
                raise InputError(f"{name} must be one or more finite numbers, got {plain}")
            if name == "std" and min(entries) <= 0:
                raise InputError(f"std must be > 0, got {plain}")

    def encode(self, x: Tensor) -> Tensor:
        """Return ``(x - mean) / std`` for ``x (b, *d)``, in the floating dtype of ``x``."""
        x = x if x.is_floating_point() else x.float()
        return (x - _like(self.mean, x)) / _like(self.std, x)

    def decode(self, z: Tensor) -> Tensor:
        """Return ``z std + mean`` for ``z (b, *d)``."""
        return z * _like(self.std, z) + _like(self.mean, z)

    def encoded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of what a model sees of a sample of ``shape``: the same."""
        return tuple(shape)

    def log_det(self, shape: Sequence[int]) -> float:
        """Return ``log |det dz/dx|`` for a sample of ``shape``, in nats."""
        scale = torch.zeros(1, *shape, dtype=torch.float64) + _like(
            self.std, torch.zeros(1, *shape, dtype=torch.float64)
        )
        return -float(scale.log().sum())

    def to_config(self) -> dict[str, object]:
        """Return the plain ``_target_`` dict that builds this codec again."""
        values = {
            name: list(value) if isinstance(value, Sequence) else value
            for name, value in (("mean", self.mean), ("std", self.std))
        }
        return {"_target_": "flowgen.data.Standardize", **values}


@dataclass(frozen=True)
class Identity:
    """Data that a model sees as they are stored."""

    def encode(self, x: Tensor) -> Tensor:
        """Return ``x`` itself."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """Return ``z`` itself."""
        return z

    def encoded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of what a model sees of a sample of ``shape``: the same."""
        return tuple(shape)

    def log_det(self, shape: Sequence[int]) -> float:
        """Return ``log |det dz/dx|`` for a sample of ``shape``: 0."""
        del shape
        return 0.0

    def to_config(self) -> dict[str, object]:
        """Return the plain ``_target_`` dict that builds this codec again."""
        return {"_target_": "flowgen.data.Identity"}


def _like(value: float | Sequence[float], x: Tensor) -> float | Tensor:
    """Return ``value`` ready to broadcast along the first sample axis of ``x``."""
    if not isinstance(value, Sequence):
        return value
    if x.ndim < 2 or x.shape[1] != len(value):
        raise InputError(
            f"x must have {len(value)} entries on its first sample axis, got {tuple(x.shape)}"
        )
    return torch.tensor(value, dtype=x.dtype, device=x.device).reshape(-1, *([1] * (x.ndim - 2)))
