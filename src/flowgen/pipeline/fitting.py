"""A pipeline with a sampler fitted to its model, which is saved and loaded like any other.

Trajectories of one set of samples are fitted, another set tells what was gained.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowgen.core import Condition, InputError
from flowgen.integrators import (
    AdamsBashforth,
    NonStationary,
    Sampler,
    fit_grid,
    fit_solver,
    teacher_ends,
)
from flowgen.pipeline.eval_mode import eval_mode
from flowgen.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class FittedPipeline:
    """What :func:`fit_sampler` made.

    Args:
        pipeline: The model with its fitted sampler; can be saved.
        before: Root mean square distance from the teacher's end points before the fit, on samples
            that were not fitted, in model space.
        after: The same after the fit.
    """

    pipeline: Pipeline
    before: float
    after: float


@torch.no_grad()
def fit_sampler(
    pipeline: Pipeline,
    sampler: Sampler,
    stepper: Mapping[str, Any],
    *,
    solver: bool = False,
    num_samples: int = 128,
    seed: int = 0,
    iterations: int = 20,
    teacher_steps: int = 50,
) -> FittedPipeline:
    """Return ``pipeline`` with ``sampler`` fitted to its field, guided where that is set.

    Args:
        pipeline: The model; it must describe itself.
        sampler: Stepper, number of steps and the grid to start from.
        stepper: The plain config of its stepper, to be stored.
        solver: Fit the weights of the velocities too, in place of the stepper's.
        num_samples: Trajectories that are fitted, >= 1, and as many that are not.
        seed: Of their source samples.
        iterations: Most iterations of each fit.
        teacher_steps: Steps of RK4 that tell where trajectories end.

    Raises:
        InputError: If a number is out of range or the sampler cannot be fitted.
    """
    if num_samples < 1:
        raise InputError(f"num_samples must be >= 1, got {num_samples}")
    if teacher_steps < 1:
        raise InputError(f"teacher_steps must be >= 1, got {teacher_steps}")
    if sampler.stochastic:
        raise InputError(f"{sampler.stepper!r} draws noise: only an ODE sampler can be fitted")
    if sampler.start is not None:
        raise InputError("only a sampler that begins at the source can be fitted")
    if not pipeline.config:
        raise InputError("no config describes this pipeline, so a fitted one could not be saved")
    field = pipeline.velocity()

    def trajectories(first: int) -> tuple[Tensor, Tensor, Condition | None]:
        numbers = range(first, first + num_samples)
        x_0 = pipeline.noise(seed, numbers) * pipeline.initial_scale
        cond = pipeline.conditions(numbers)
        return x_0, teacher_ends(field, x_0, cond, num_steps=teacher_steps), cond

    def distance(candidate: Sampler) -> float:
        x_0, x_1, cond = other
        return float((candidate.sample(field, x_0, cond) - x_1).square().mean().sqrt())

    with eval_mode(pipeline.field):
        fitted, other = trajectories(0), trajectories(num_samples)
        before = distance(sampler)
        start = Sampler(AdamsBashforth(2), sampler.grid, sampler.num_steps) if solver else sampler
        best = fit_grid(start, field, *fitted, iterations=iterations).sampler
        if solver:
            best = fit_solver(best, field, *fitted, iterations=iterations).sampler
        after = distance(best)
    made = copy.deepcopy(pipeline.config)
    made["sampler"] = _config(best, stepper)
    result = pipeline.with_sampler(best)
    result.config = made
    result.about = pipeline.about | {
        "fitted": {
            "guidance": repr(pipeline.guidance),
            "teacher_steps": teacher_steps,
            "before": before,
            "after": after,
        }
    }
    return FittedPipeline(result, before, after)


def _config(sampler: Sampler, stepper: Mapping[str, Any]) -> dict[str, Any]:
    node = dict(stepper)
    if isinstance(sampler.stepper, NonStationary):
        node = {
            "_target_": "flowgen.integrators.NonStationary",
            "weights": sampler.stepper.weights,
            "scales": sampler.stepper.scales,
        }
    return {
        "_target_": "flowgen.integrators.Sampler",
        "stepper": node,
        "grid": {
            "_target_": "flowgen.integrators.Explicit",
            "nodes": sampler.grid(sampler.num_steps).tolist(),
        },
        "num_steps": sampler.num_steps,
    }
