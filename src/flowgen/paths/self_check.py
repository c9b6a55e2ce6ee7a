"""One batch tells whether a field speaks our convention: time 0 is noise, velocity points to data.

A mistaken convention trains and samples without a complaint, and gives garbage. The conditional
velocity ``v_t`` of a pair is known, and ``E |v(x_t, t) - v_t|^2`` is smallest for the marginal
velocity, so the four readings of a field, its sign turned or not and its time reversed or not, can
be told apart by their loss on one batch of pairs. An Euler step along the velocity must shorten the
way to the pair's own later state.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, Pair, VelocityField, domain_of, expand, mean_over_dims
from flowgen.paths.affine import AffinePath

OURS = "v(x, t)"
"""The reading that flowgen means."""

READINGS: Mapping[str, tuple[float, bool]] = {
    OURS: (1.0, False),
    "-v(x, t)": (-1.0, False),
    "v(x, 1 - t)": (1.0, True),
    "-v(x, 1 - t)": (-1.0, True),
}
"""Ways to read a field: the factor of its answer, and whether its time is reversed."""

_CLEAR = 4.0
"""Standard errors by which another reading must win before it is called the right one."""


@dataclass(frozen=True)
class ConventionCheck:
    """What one batch says of a field.

    Args:
        losses: Mean squared error against the pairs' velocities under each of :data:`READINGS`.
        gain: Share of the way to the pair's later state that an Euler step along the field saves,
            at most 1; about 0 for an untrained field, negative for one that leads away.
        better: The reading that is clearly better than ours, or None.
    """

    losses: Mapping[str, float]
    gain: float
    better: str | None

    def require(self) -> None:
        """Raise unless the field speaks our convention and leads towards the data.

        Raises:
            InputError: Naming the reading that fits better, or that the field leads nowhere.
        """
        if self.better is not None:
            raise InputError(
                f"the field fits its data better as {self.better} (loss "
                f"{self.losses[self.better]:.4g}) than as {OURS} ({self.losses[OURS]:.4g}): it "
                "has another convention of time or sign; wrap it, e.g. in "
                "flowgen.paths.FromDiffusersFlow"
            )
        if not self.gain > 0:
            raise InputError(
                f"an Euler step along the field does not lead towards the data (gain "
                f"{self.gain:.3f}, expected > 0): it is not trained, or not on this path and data"
            )


def check_conventions(
    field: VelocityField,
    path: AffinePath,
    pair: Pair,
    *,
    step: float = 0.1,
    generator: torch.Generator | None = None,
) -> ConventionCheck:
    """Return what a batch of pairs says of a field; every row is looked at at a time of its own.

    Args:
        field: The velocity field.
        path: The path it is meant to be the field of.
        pair: At least 8 pairs in model space, as in training, on the device of the field.
        step: Length of the Euler step, in ``(0, 1)``.
        generator: Draws the order of the times; None keeps them sorted by row.

    Raises:
        InputError: If there are too few pairs or ``step`` leaves its range.
    """
    if len(pair) < 8:
        raise InputError(f"a check of conventions needs at least 8 pairs, got {len(pair)}")
    if not 0.0 < step < 1.0:
        raise InputError(f"step must be in (0, 1), got {step}")
    t = _times(field, path, pair, step, generator)
    point = path.sample(pair, t)
    with torch.no_grad():
        errors = {
            name: mean_over_dims((read(point.x_t, t) - point.v_t).square())
            for name, read in _readings(field, pair).items()
        }
        later = path.sample(pair, t + step * _span(field, path)).x_t
        h = expand(torch.full_like(t, step * _span(field, path)), point.x_t)
        reached = point.x_t + h * field(point.x_t, t, pair.cond)
    left, way = ((x - later).square().mean().sqrt() for x in (reached, point.x_t))
    better = None
    best = min(errors, key=lambda name: float(errors[name].mean()))
    if best != OURS and _clearly_above_zero(errors[OURS] - errors[best]):
        better = best
    losses = {name: float(error.mean()) for name, error in errors.items()}
    return ConventionCheck(losses, float(1 - left / way), better)


def check_agreement(
    student: VelocityField,
    teacher: VelocityField,
    path: AffinePath,
    pair: Pair,
    *,
    tolerance: float = 1e-3,
    generator: torch.Generator | None = None,
) -> float:
    """Return ``|student - teacher| / |teacher|`` on a batch; raise unless it is small.

    To be called before the first step of a distillation whose student starts as its teacher.

    Args:
        student: The field about to learn.
        teacher: The field it starts from.
        path: The path of both.
        pair: Pairs in model space.
        tolerance: Largest relative difference.
        generator: As in :func:`check_conventions`.

    Raises:
        InputError: If the fields differ, naming the reading of the student that would agree.
    """
    t = _times(student, path, pair, 0.0, generator)
    x_t = path.sample(pair, t).x_t
    with torch.no_grad():
        wanted = teacher(x_t, t, pair.cond)
        scale = wanted.square().mean().sqrt().clamp(min=torch.finfo(wanted.dtype).tiny)
        differences = {
            name: float((read(x_t, t) - wanted).square().mean().sqrt() / scale)
            for name, read in _readings(student, pair).items()
        }
    if differences[OURS] <= tolerance:
        return differences[OURS]
    best = min(differences, key=lambda name: differences[name])
    hint = (
        f"; read as {best} it would agree: one of them has another convention"
        if differences[best] <= tolerance
        else "; they do not start from the same weights, path or scale"
    )
    raise InputError(
        f"student and teacher differ by {differences[OURS]:.3g} of the teacher's size before the "
        f"first step (allowed: {tolerance:g}){hint}"
    )


def _readings(field: VelocityField, pair: Pair) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    low, high = domain_of(field)

    def reading(sign: float, reverse: bool) -> Callable[[Tensor, Tensor], Tensor]:
        def read(x: Tensor, t: Tensor) -> Tensor:
            return sign * field(x, (1 - t).clamp(low, high) if reverse else t, pair.cond)

        return read

    return {name: reading(*how) for name, how in READINGS.items()}


def _range(field: VelocityField, path: AffinePath) -> tuple[float, float]:
    low, high = domain_of(field)
    return max(low, path.domain[0]), min(high, path.domain[1])


def _span(field: VelocityField, path: AffinePath) -> float:
    low, high = _range(field, path)
    return high - low


def _times(
    field: VelocityField,
    path: AffinePath,
    pair: Pair,
    step: float,
    generator: torch.Generator | None,
) -> Float[Tensor, " b"]:
    """Return one time for each row, evenly spread over the domain less the last ``step``."""
    low, high = _range(field, path)
    places = (torch.arange(len(pair)) + 0.5) / len(pair)
    if generator is not None:
        places = places[torch.randperm(len(pair), generator=generator, device=generator.device)]
    times = low + (high - low) * (1 - step) * places
    return times.to(pair.x_1)


def _clearly_above_zero(difference: Float[Tensor, " b"]) -> bool:
    error = float(difference.std()) / math.sqrt(len(difference))
    return float(difference.mean()) > _CLEAR * error
