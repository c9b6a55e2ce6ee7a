"""Exponential moving average of the weights, the ones that are sampled.

``ema <- d ema + (1 - d) weights`` with ``d = min(decay, (1 + step) / (10 + step))``: the rising
decay lets the average forget the initial weights in short runs.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowgen.core import InputError


class EMA(nn.Module):
    """An averaged copy of a module, without gradients.

    Args:
        field: The module to follow; copied.
        decay: Largest weight of the past, in ``[0, 1)``; 0 copies the weights at every step.

    Raises:
        InputError: If ``decay`` is outside ``[0, 1)``.
    """

    def __init__(self, field: nn.Module, *, decay: float = 0.999) -> None:
        super().__init__()
        if not 0.0 <= decay < 1.0:
            raise InputError(f"ema.decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.field = copy.deepcopy(field).eval().requires_grad_(False)
        # Walking through the modules takes as long as a small network's step.
        self._walked: tuple[nn.Module, _Tensors, _Tensors] | None = None

    def train(self, mode: bool = True) -> "EMA":
        """Stay in evaluation mode, whatever the owner does."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def update(self, field: nn.Module, step: int) -> None:
        """Move towards the weights of ``field`` after optimiser step number ``step`` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        if self._walked is None or self._walked[0] is not field:
            self._walked = (field, _tensors(self.field), _tensors(field))
        _, mine, theirs = self._walked
        torch._foreach_lerp_(mine.parameters, theirs.parameters, 1.0 - decay)
        for averaged, value in zip(mine.buffers, theirs.buffers, strict=True):
            averaged.copy_(value)


class _Tensors(NamedTuple):
    parameters: list[Tensor]
    buffers: list[Tensor]


def _tensors(field: nn.Module) -> _Tensors:
    return _Tensors(list(field.parameters()), list(field.buffers()))
