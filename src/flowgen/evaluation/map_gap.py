"""Measure: what it costs to go from start to end, and how much of that is in vain."""

import torch

from flowgen.core import InputError
from flowgen.evaluation.measure import Figures, Once, Running
from flowgen.evaluation.setting import Setting
from flowgen.metrics import map_cost


class MongeGap:
    """Cost and exact Monge gap of the map from ``x_0`` to the samples, by the model's sampler.

    In model space, in squared units summed over the axes. Needs no reference: it says whether the
    model, a flow or a map, takes each start to a near end, not whether the ends are good.
    ``relative_gap`` is 0 for an optimal map, and near 1/2 for one that pairs at random
    distributions with one spread around one mean.

    Args:
        num_samples: Most starts, >= 2, and no more than samples of the evaluation; time grows as
            the cube.

    Raises:
        InputError: If there are less than two.

    Source: Uscidda and Cuturi 2023, arXiv 2302.04953, definition 3.1.
    """

    name = "monge gap"
    needs_samples = False

    def __init__(self, num_samples: int = 512) -> None:
        if num_samples < 2:
            raise InputError(f"num_samples must be >= 2, got {num_samples}")
        self.num_samples = num_samples

    def unfit(self, setting: Setting) -> str:
        """Return why it cannot be measured here, empty if it can."""
        stochastic = setting.pipeline.sampler.stochastic
        return "a stochastic sampler is no map" if stochastic else ""

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work."""
        return _Running(self, setting)


class _Running(Once):
    def __init__(self, measure: MongeGap, setting: Setting) -> None:
        self.measure = measure
        self.setting = setting

    def figures(self) -> Figures:
        setting, pipeline = self.setting, self.setting.pipeline
        # Of a source of data no start comes twice.
        count = min(self.measure.num_samples, setting.num_samples)
        share = setting.shards.share(count)
        own = []
        if share:
            ends = pipeline.drawn(
                share, setting.asked, seed=setting.seed, chunk=setting.chunks.size, decode=False
            )
            own = [(pipeline.noise(setting.seed, share).cpu(), torch.cat(list(ends)))]
        parts = [part for each in setting.shards.gather(own) for part in each]
        starts, ends = (torch.cat(each) for each in zip(*parts, strict=True))
        found = map_cost(starts, ends)
        return {
            "map_cost": found.cost,
            "monge_gap": found.gap,
            "relative_gap": found.relative_gap,
            "starts": len(starts),
        }
