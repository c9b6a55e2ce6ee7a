"""Whether the score of a pipeline is known, which stochastic samplers live on.

The score follows from the velocity only where, given the data, the source is standard normal: with
a standard Gaussian source and a coupling that leaves it independent of the data. After an
optimal-transport coupling the same formula gives some other vector, and samples of a stochastic
sampler have a wrong law with no sign of it.

A field that has learnt the score beside the velocity knows it after any coupling; the sampler for
it is another.
"""

from collections.abc import Mapping
from typing import Any

from flowgen.core import FlowMap, InputError, ScoreField, Source
from flowgen.data import Gaussian
from flowgen.integrators import Euler, Sampler
from flowgen.paths import StochasticInterpolant

KEY = "score_valid"
"""Where a checkpoint says whether the score follows from its velocity after its coupling."""

INDEPENDENT = "independent_pairs"
"""Where a checkpoint says whether its noise was drawn apart from its data: more than a known score.

After semidiscrete transport the score is known, but the noise follows from the data.
"""


def independent_pairs(about: Mapping[str, Any]) -> bool:
    """Return whether a model was trained with independent pairs, as far as its checkpoint says.

    Args:
        about: What the checkpoint says of itself; an older one only says whether the score is
            known.
    """
    return bool(about.get(INDEPENDENT, about.get(KEY, False)))


def check_sampler(
    sampler: Sampler, source: Source, about: Mapping[str, Any], field: object
) -> None:
    """Raise if ``sampler`` is stochastic and the score is not known, or the path is not for it.

    Args:
        sampler: Any sampler.
        source: The distribution at time 0.
        about: What the checkpoint says of itself; a pipeline built by hand says nothing, and its
            builder is believed.
        field: The velocity field that will be sampled.

    Raises:
        InputError: Saying why, and what works.
    """
    name = type(sampler.stepper).__name__
    instead = _without_noise(field)
    own_noise = isinstance(getattr(field, "path", None), StochasticInterpolant)
    if own_noise and getattr(sampler.stepper, "needs_affine_path", False):
        raise InputError(
            f"{name} works with the coefficients of an affine path, which is wrong for a path with "
            f"noise of its own: {instead}, or sampler=interpolant_sde after "
            "objective=flow_and_score"
        )
    _check_map(sampler, field)
    if not sampler.stochastic:
        return
    if getattr(sampler.stepper, "learned_score", False):
        if not isinstance(field, ScoreField):
            raise InputError(
                f"{name} needs a score that was learnt beside the velocity, which this model has "
                f"not: {instead}, or train with objective=flow_and_score"
            )
        return
    if not (isinstance(source, Gaussian) and source.std == 1):
        raise InputError(
            f"{name} needs a standard Gaussian source, this model starts from "
            f"{type(source).__name__}: {instead}"
        )
    if about and not about.get(KEY, False) and not getattr(sampler.stepper, "follows_map", False):
        why = (
            "the coupling of its training ties noise to data"
            if KEY in about
            else "the checkpoint does not say how noise and data were coupled"
        )
        raise InputError(
            f"{name} needs the score, which this model does not give ({why}): {instead}, or train "
            "with coupling=independent"
        )


def _without_noise(field: object) -> str:
    """Return what to use in place of a stochastic sampler: a map to fixed times can only jump."""
    edges = getattr(field, "edges", None)
    if edges is None:
        return "use an ODE sampler such as sampler=heun"
    nodes = ",".join(f"{edge:g}" for edge in edges)
    return f"use sampler=segment sampler.grid.nodes=[{nodes}] sampler.num_steps={len(edges) - 1}"


def _check_map(sampler: Sampler, field: object) -> None:
    """Raise unless a flow map is followed by a sampler for it, and nothing else is by one."""
    name = type(sampler.stepper).__name__
    follows = getattr(sampler.stepper, "follows_map", False)
    if follows and not isinstance(field, FlowMap):
        raise InputError(
            f"{name} follows a flow map, and this model knows velocities alone: use an ODE sampler "
            "such as sampler=heun, or make it a flow map by flowgen distill"
        )
    edges = getattr(field, "edges", None)
    if edges is not None and not follows and not isinstance(sampler.stepper, Euler):
        ends = ", ".join(f"{edge:g}" for edge in edges[1:])
        raise InputError(
            f"this model leads to {ends} at once and knows no velocity for {name}: use sampler=map "
            "over those times, sampler=renoise or sampler=euler"
        )
