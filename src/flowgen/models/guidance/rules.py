"""Guidance as a setting: a rule makes a guided field of a field and its empty condition."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from flowgen.core import InputError, VelocityField
from flowgen.models.guidance.auto import AutoGuided
from flowgen.models.guidance.combine import Combine, Extrapolate, Projected, Rescaled
from flowgen.models.guidance.guided import Guided, Null, check_interval
from flowgen.models.guidance.zero_init import ZeroInit
from flowgen.paths import guidance_scale_from_w


@runtime_checkable
class Guidance(Protocol):
    """How sampling is guided."""

    @property
    def uses_null(self) -> bool:
        """Whether the empty condition is evaluated, so that the model must know it."""
        ...

    def __call__(self, field: VelocityField, null: Null | None) -> VelocityField:
        """Return the guided field; ``null`` is None for an unconditional model."""
        ...


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance, optionally in an interval of times and with a rescaled velocity.

    Args:
        scale: ``v_null + scale (v_cond - v_null)``, at least 0; 1 is off.
        interval: Guide at times ``low <= t < high`` only; None guides always. A noise level ``s``
            of EDM is ``t = 1 / (1 + s)`` on the linear path.
        rescale: Share of the pull back to the spread of ``v_cond``, in ``[0, 1]``.

    Raises:
        InputError: If a number leaves its range.
    """

    scale: float = 1.0
    interval: Sequence[float] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers before a model is loaded."""
        _combine(self.scale, self.rescale)
        _interval(self.interval)

    @classmethod
    def from_w(
        cls, w: float = 0.0, interval: Sequence[float] | None = None, rescale: float = 0.0
    ) -> "ClassifierFree":
        """Return the same guidance told in the other convention: ``(1 + w) v_cond - w v_null``."""
        return cls(guidance_scale_from_w(w), interval, rescale)

    @property
    def uses_null(self) -> bool:
        """Whether the empty condition is evaluated: not at a scale of 1."""
        return self.scale != 1.0

    def __call__(self, field: VelocityField, null: Null | None) -> VelocityField:
        """Return the guided field; the field itself where guidance is off."""
        if not self.uses_null:
            return field
        combine = _combine(self.scale, self.rescale)
        return Guided(field, combine, _known(null), interval=_interval(self.interval))


@dataclass(frozen=True)
class CFGZero:
    """CFG-Zero*: the null velocity is fitted to the conditional one, and the start may wait.

    Args:
        scale: As in :class:`ClassifierFree`; 1 leaves the conditional velocity.
        zero_until: Time before which the velocity is zero, in ``[0, 1)``; 0 is off.
        interval: As in :class:`ClassifierFree`.

    Raises:
        InputError: If a number leaves its range.

    Source: Fan et al. 2025, arXiv 2503.18886.
    """

    scale: float = 1.0
    zero_until: float = 0.0
    interval: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the numbers before a model is loaded."""
        Extrapolate(self.scale)
        _interval(self.interval)
        if not 0.0 <= self.zero_until < 1.0:
            raise InputError(f"guidance.zero_until must be in [0, 1), got {self.zero_until}")

    @property
    def uses_null(self) -> bool:
        """Whether the empty condition is evaluated: not at a scale of 1."""
        return self.scale != 1.0

    def __call__(self, field: VelocityField, null: Null | None) -> VelocityField:
        """Return the guided field."""
        if self.uses_null:
            combine = Projected(Extrapolate(float(self.scale)))
            field = Guided(field, combine, _known(null), interval=_interval(self.interval))
        return ZeroInit(field, self.zero_until) if self.zero_until > 0 else field


@dataclass(frozen=True)
class Autoguidance:
    """Guidance by a weaker model under the same condition.

    Args:
        weak: Velocity field of the weaker model.
        scale: ``v + (scale - 1) (v - v_weak)``, at least 0; 1 is off.

    Source: Karras et al. 2024, arXiv 2406.02507.
    """

    weak: VelocityField = field(repr=False)
    scale: float = 2.0

    @property
    def uses_null(self) -> bool:
        """Whether the empty condition is evaluated: never."""
        return False

    def __call__(self, field: VelocityField, null: Null | None) -> VelocityField:
        """Return the guided field; the field itself where guidance is off."""
        del null
        return field if self.scale == 1.0 else AutoGuided(field, self.weak, self.scale)


def _combine(scale: float, rescale: float) -> Combine:
    combine = Extrapolate(float(scale))
    rescaled = Rescaled(combine, rescale)
    return rescaled if rescale > 0 else combine


def _interval(interval: Sequence[float] | None) -> tuple[float, float] | None:
    if interval is None:
        return None
    if len(interval) != 2:
        raise InputError(f"guidance.interval must be two times, got {list(interval)}")
    return check_interval((interval[0], interval[1]))


def _known(null: Null | None) -> Null:
    if null is None:
        raise InputError("guidance by the condition needs a conditional model")
    return null
