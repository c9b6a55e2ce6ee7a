"""A teacher: a field that is asked and never learns."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, VelocityField, domain_of


class Frozen(nn.Module):
    """The same velocity field without gradients, in evaluation mode.

    It moves with its owner but is no part of it: neither its parameters nor its state are the
    owner's, and copies of the owner share it.

    Args:
        field: The teacher, guided or not.

    Attributes:
        domain: The closed range of times where the teacher is finite.
    """

    def __init__(self, field: VelocityField) -> None:
        super().__init__()
        self._held = (field,)
        self._rest()
        self.domain = domain_of(field)

    @classmethod
    def of(cls, teacher: VelocityField | None) -> "Frozen":
        """Return the teacher frozen, as it is if it is so already.

        Raises:
            InputError: If there is none.
        """
        if teacher is None:
            raise InputError("this method needs a teacher: use flowgen distill teacher=<run>")
        return teacher if isinstance(teacher, cls) else cls(teacher)

    @property
    def field(self) -> VelocityField:
        """The teacher itself."""
        return self._held[0]

    @torch.no_grad()
    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the teacher's velocity ``(b, *d)`` at states ``x (b, *d)`` and times ``t (b,)``.

        Times are clamped to its :attr:`domain`.
        """
        return self.field(x, t.clamp(*self.domain), cond).to(x.dtype)

    def train(self, mode: bool = True) -> "Frozen":
        """Stay in evaluation mode, whatever the owner does."""
        del mode
        return super().train(False)

    def _rest(self) -> None:
        for module in _modules(self.field):
            module.eval().requires_grad_(False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Frozen":
        for module in _modules(self.field):
            module._apply(fn)
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Frozen":
        """Return itself: copies of the owner share it."""
        memo[id(self)] = self
        return self


def _modules(field: VelocityField) -> list[nn.Module]:
    """Networks inside a field: itself, or what a guide holds."""
    if isinstance(field, nn.Module):
        return [field]
    return [value for value in vars(field).values() if isinstance(value, nn.Module)]
