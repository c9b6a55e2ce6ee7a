"""Measure: how straight and how long the trajectories are, in model space."""

from dataclasses import asdict

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.evaluation.measure import Figures, Once, Running
from flowgen.evaluation.setting import Setting
from flowgen.integrators import Heun, Sampler, Uniform, trajectory
from flowgen.metrics import PathStatistics, exact_w2, path_statistics

MAX_EXACT = 2000
"""Most points of the exact distance between source and data."""


class Paths:
    """Energy, length, transport cost and straightness of trajectories on a fine grid.

    For points also the normalised path energy, whose reference ``W2^2`` is that of as many source
    and data points; in many dimensions that estimate is too biased to divide by.

    Args:
        steps: Steps of the fine grid, >= 1.
        num_samples: Trajectories, >= 1.

    Raises:
        InputError: If a number is too small.
    """

    name = "paths"
    needs_samples = False

    def __init__(self, steps: int = 50, num_samples: int = 256) -> None:
        for name, value in (("path_steps", steps), ("path_samples", num_samples)):
            if value < 1:
                raise InputError(f"{name} must be >= 1, got {value}")
        self.steps = steps
        self.num_samples = num_samples

    def unfit(self, setting: Setting) -> str:
        """Return why it cannot be measured here: every flow has paths."""
        del setting
        return ""

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work."""
        return _Running(self, setting)


def statistics_of(measure: Paths, setting: Setting) -> PathStatistics:
    """Return the statistics of the trajectories of ``setting.pipeline``, the same everywhere."""
    return PathStatistics.merged([part for part, _, _ in _Running(measure, setting).parts()])


class _Running(Once):
    def __init__(self, measure: Paths, setting: Setting) -> None:
        self.measure = measure
        self.setting = setting

    def figures(self) -> Figures:
        setting = self.setting
        parts = self.parts()
        result = PathStatistics.merged([statistics for statistics, _, _ in parts])
        figures: Figures = asdict(result)
        if not setting.images:
            starts, ends = (torch.cat(each) for each in list(zip(*parts, strict=True))[1:])
            figures |= self._ratios(result, starts, ends)
        return figures | {"grid": f"heun, {len(self._nodes()) - 1} steps"}

    def parts(self) -> list[tuple[PathStatistics, Tensor, Tensor]]:
        """Return statistics, starts and ends of the trajectories, chunk by chunk."""
        share = self.setting.shards.share(self.measure.num_samples)
        own = list(self.setting.chunks.over(share, self._trajectories))
        return [part for each in self.setting.shards.gather(own) for part in each]

    def _nodes(self) -> Tensor:
        fine = Sampler(Heun(), Uniform(), self.measure.steps)
        return fine.grid_for(self.setting.pipeline.velocity())

    @torch.inference_mode()
    def _trajectories(self, numbers: range) -> tuple[PathStatistics, Tensor, Tensor]:
        pipeline = self.setting.pipeline
        field, nodes = pipeline.velocity(), self._nodes()
        x_0 = pipeline.noise(self.setting.seed, numbers) * pipeline.initial_scale
        cond = pipeline.conditions(numbers, self.setting.asked)
        training = pipeline.field.training
        pipeline.field.eval()
        try:
            states = trajectory(Heun(), field, x_0, nodes, cond)
            statistics = path_statistics(field, states, nodes, cond)
        finally:
            pipeline.field.train(training)
        return statistics, states[0].cpu().clone(), states[-1].cpu().clone()

    def _ratios(self, result: PathStatistics, starts: Tensor, ends: Tensor) -> Figures:
        setting = self.setting
        real = setting.real(setting.data.train, min(len(starts), MAX_EXACT))["x_1"]
        source = starts[: len(real)]
        target = setting.pipeline.codec.encode(real)
        own = exact_w2(source, ends[: len(real)]).w2_squared
        return {
            "npe": result.npe(exact_w2(source, target).w2_squared),
            "energy_over_w2_squared_to_samples": result.energy_ratio(own),
        }
