"""Measure: exact and sliced Wasserstein distance of points."""

from torch import Tensor

from flowgen.core import InputError, generator_for
from flowgen.evaluation.measure import Figures, Running
from flowgen.evaluation.points import NOT_POINTS, Points
from flowgen.evaluation.setting import Drawn, Setting
from flowgen.metrics import exact_w2, sliced_w2


class Transport:
    """Exact and sliced W2 to held-out points, with the floors that training points reach.

    Args:
        max_points: Most points of each side, >= 2; the time of the exact distance grows as the
            cube.

    Raises:
        InputError: If ``max_points < 2``.
    """

    name = "distance to held-out points"
    needs_samples = True

    def __init__(self, max_points: int = 2000) -> None:
        if max_points < 2:
            raise InputError(f"max_points must be >= 2, got {max_points}")
        self.max_points = max_points

    def unfit(self, setting: Setting) -> str:
        """Return why it cannot be measured here, empty if it can."""
        return NOT_POINTS if setting.images else ""

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work."""
        return _Running(Points(setting, self.max_points))


class _Running:
    def __init__(self, points: Points) -> None:
        self.points = points

    def update(self, drawn: Drawn) -> None:
        self.points.update(drawn)

    def figures(self) -> Figures:
        points = self.points
        figures: Figures = dict(_distances(points.samples(), points))
        floor = points.setting.remembered(
            ("transport", points.size), lambda: _distances(points.training, points)
        )
        figures |= {f"{name}_floor": value for name, value in floor.items()}
        return figures | {"points": points.size}


def _distances(side: Tensor, points: Points) -> dict[str, float]:
    exact = exact_w2(side, points.held_out)
    generator = generator_for(points.setting.seed)
    return {
        "w2": exact.w2,
        "w2_squared": exact.w2_squared,
        "sliced_w2": sliced_w2(side, points.held_out, generator=generator).w2,
    }
