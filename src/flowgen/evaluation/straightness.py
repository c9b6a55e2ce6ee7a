"""Measure: how straight the trajectories are, one number, for tables of several models."""

from flowgen.evaluation.measure import Figures, Once, Running
from flowgen.evaluation.paths import Paths, statistics_of
from flowgen.evaluation.setting import Setting


class Straightness(Paths):
    """``S = E int |v - (x_1 - x_0)|^2 dt`` on a fine grid, summed over the axes of a sample.

    It is 0 only where one Euler step is exact, and falls with each round of reflow. It belongs to
    the model, whatever sampler is used, so it is measured once for each. Arguments are those of
    :class:`Paths`, which has the other figures of trajectories.

    Source: Liu et al. 2022, arXiv 2209.03003, eq. 5.
    """

    name = "straightness"

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work."""
        return _Running(self, setting)


class _Running(Once):
    def __init__(self, measure: Straightness, setting: Setting) -> None:
        self.measure = measure
        self.setting = setting

    def figures(self) -> Figures:
        pipeline = self.setting.pipeline
        # The key holds the field, so that no other can come to have its identity.
        key = (self.measure, pipeline.field, pipeline.guidance)
        found = self.setting.remembered(key, lambda: statistics_of(self.measure, self.setting))
        return {"straightness": found.straightness}
