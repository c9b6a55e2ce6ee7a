"""What the layers ask of each other; any object with the right signature will do."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from flowgen.core.types import Condition, Loss, Pair


@runtime_checkable
class VelocityField(Protocol):
    """A velocity ``v(x, t)``: a model, a teacher, a guided model, an oracle.

    A field may carry ``domain: tuple[float, float]``, the closed range of times inside ``[0, 1]``
    where it is finite; see :func:`domain_of`.
    """

    def __call__(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(b, *d)`` at states ``x (b, *d)`` and times ``t (b,)``."""
        ...


@runtime_checkable
class ScoreField(VelocityField, Protocol):
    """A velocity field that knows the score of its marginals, apart from the velocity."""

    def score(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the score ``(b, *d)`` at states ``x (b, *d)`` and times ``t (b,)``."""
        ...


@runtime_checkable
class NoiseField(VelocityField, Protocol):
    """A velocity field that also tells the latent noise of its path."""

    def latent_noise(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return ``E[z | x_t = x]``, ``(b, *d)``, at states ``x (b, *d)`` and times ``t (b,)``."""
        ...


@runtime_checkable
class FlowMap(Protocol):
    """Knows where the flow leads: ``X(x, s, t) = x + (t - s) u(x, s, t)``.

    Attributes:
        edges: None if any end time may be asked for; else the rising times from 0 to 1 that the map
            leads to: the end of a state's segment is the next of them after its time.
    """

    edges: tuple[float, ...] | None

    def mean_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, cond: Condition | None = None
    ) -> Tensor:
        """Return ``u (b, *d)``: from states ``x (b, *d)`` at times ``s`` to times ``t (b,)``."""
        ...


@runtime_checkable
class Coupling(Protocol):
    """Decides which source sample belongs to which data sample, or what a pair weighs.

    Attributes:
        score_valid: Whether the score follows from the velocity after this coupling.
        exact_marginals: Whether both marginals of the pairs are the given ones.
        condition_safe: Whether the source stays independent of the condition.
    """

    score_valid: bool
    exact_marginals: bool
    condition_safe: bool

    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the coupled pair; rows of ``x_1`` and ``cond`` stay aligned."""
        ...


@runtime_checkable
class DataCoupling(Coupling, Protocol):
    """A coupling that knows the whole training set."""

    def use(self, x_1: Tensor, label: Tensor | None, digest: str) -> None:
        """Take all samples ``(n, *d)`` in the model's space, their labels ``(n,)``, a digest."""
        ...


@runtime_checkable
class Objective(Protocol):
    """What a model is trained to do."""

    def __call__(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the unreduced loss of ``model`` on ``pair``."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """An objective that wants to see the field before it is trained."""

    def begin(self, field: nn.Module) -> None:
        """Take what is needed of the field, e.g. a copy; called again when it gets new weights."""
        ...


NullCondition = Callable[[int, torch.device | str | None], Condition]
"""Returns the conditions of some rows that mean "none", on a device."""


@runtime_checkable
class Unconditional(Protocol):
    """A part of an objective that asks the field for its answer under no condition as well."""

    def use_null(self, null: NullCondition | None) -> None:
        """Take what makes conditions that mean "none"; None of a model that takes none at all."""
        ...


@runtime_checkable
class Follows(Protocol):
    """An objective with something that follows the field, e.g. an averaged copy for targets."""

    def after_step(self, field: nn.Module, step: int) -> None:
        """Go along with the field after optimiser step number ``step`` (from 1)."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """An objective that changes over a run.

    Attributes:
        total_steps: Optimiser steps of the run; None until the run tells it.
    """

    total_steps: int | None


@runtime_checkable
class Source(Protocol):
    """The distribution at time 0."""

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return ``n`` samples, shape ``(n, *d)``; the generator lives on ``device``."""
        ...


def domain_of(field: VelocityField) -> tuple[float, float]:
    """Return the closed range of times where ``field`` is finite; ``(0, 1)`` if it does not say."""
    return getattr(field, "domain", (0.0, 1.0))
