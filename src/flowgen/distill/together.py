"""Several objectives on one batch."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from flowgen.core import (
    Follows,
    InputError,
    Loss,
    Objective,
    Pair,
    Prepared,
    Scheduled,
    VelocityField,
)


@dataclass(frozen=True)
class Part:
    """One summand.

    Args:
        objective: What is minimised.
        weight: Its factor, > 0.
        start: Optimiser step from which on it counts, >= 0.
        after: Share of the run from which on it counts, in ``[0, 1)``.

    Raises:
        InputError: If a number leaves its range.
    """

    objective: Objective
    weight: float = 1.0
    start: int = 0
    after: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.weight > 0:
            raise InputError(f"weight must be > 0, got {self.weight}")
        if self.start < 0:
            raise InputError(f"start must be >= 0, got {self.start}")
        if not 0 <= self.after < 1:
            raise InputError(f"after must be in [0, 1), got {self.after}")

    def counts(self, step: int, total_steps: int | None) -> bool:
        """Return whether it counts at a step of a run; of an unknown length, for a rehearsal."""
        return step >= self.start and (total_steps is None or step >= self.after * total_steps)


class Together(nn.Module):
    """The weighted sum of objectives; each draws times of its own.

    Args:
        parts: By name, at least one that starts at once; the log has ``loss/<name>``.

    Raises:
        InputError: If no part starts at step 0.
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        super().__init__()
        if not any(part.counts(0, 1) for part in parts.values()):
            raise InputError("one part at least must start at step 0")
        self.parts = dict(parts)
        self.modules_of_parts = nn.ModuleDict(
            {n: p.objective for n, p in parts.items() if isinstance(p.objective, nn.Module)}
        )
        self._total_steps: int | None = None

    @property
    def total_steps(self) -> int | None:
        """Optimiser steps of the run, None until it tells; handed on to the parts."""
        return self._total_steps

    @total_steps.setter
    def total_steps(self, total: int | None) -> None:
        self._total_steps = total
        for part in self.parts.values():
            if isinstance(part.objective, Scheduled):
                part.objective.total_steps = total

    def begin(self, field: nn.Module) -> None:
        """Let the parts take what they need of the field."""
        for part in self.parts.values():
            if isinstance(part.objective, Prepared):
                part.objective.begin(field)

    def after_step(self, field: nn.Module, step: int) -> None:
        """Let the parts go along with the field."""
        for part in self.parts.values():
            if isinstance(part.objective, Follows):
                part.objective.after_step(field, step)

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the sum of the losses of all parts that have started.

        Args:
            model: What is trained.
            pair: Coupled source and data.
            step: Optimiser steps taken before.
            generator: Draws what the parts draw, in their order.

        Returns:
            The loss ``(b,)``, and the terms of all parts, with the name of their part in front.
            Times are those of the first part that tells a ``residual``, which is a term of its
            own as well; without one, those of the first part.
        """
        value, first, terms = None, None, {}
        for name, part in self.parts.items():
            if not part.counts(step, self.total_steps):
                continue
            loss = part.objective(model, pair, step=step, generator=generator)
            if first is None or ("residual" in loss.terms and "residual" not in first.terms):
                first = loss
            value = part.weight * loss.value + (0.0 if value is None else value)
            terms[name] = loss.value.detach()
            terms |= {f"{name}_{term}": content for term, content in loss.terms.items()}
        assert first is not None
        assert value is not None
        if "residual" in first.terms:
            # With its times, for the log of the residual by time bin.
            terms["residual"] = first.terms["residual"]
        return Loss(value, pair, first.t, terms)
