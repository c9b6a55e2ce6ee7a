"""Measure: kernel and energy distance of points."""

from torch import Tensor

from flowgen.core import InputError
from flowgen.evaluation.measure import Figures, Running
from flowgen.evaluation.points import NOT_POINTS, Points
from flowgen.evaluation.setting import Drawn, Setting
from flowgen.metrics import energy_distance, median_distance, rbf_mmd


class Discrepancy:
    """RBF discrepancy (squared) and energy distance to held-out points, with their floors.

    The bandwidth is the median distance of held-out points, so figures against the same points can
    be compared.

    Args:
        max_points: Most points of each side, >= 2; time grows as the square.

    Raises:
        InputError: If ``max_points < 2``.
    """

    name = "discrepancy from held-out points"
    needs_samples = True

    def __init__(self, max_points: int = 5000) -> None:
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
        remembered = points.setting.remembered
        self.bandwidth = remembered(
            ("bandwidth", points.size), lambda: median_distance(points.held_out)
        )

    def update(self, drawn: Drawn) -> None:
        self.points.update(drawn)

    def figures(self) -> Figures:
        points = self.points
        figures: Figures = dict(self._discrepancies(points.samples()))
        floor = points.setting.remembered(
            ("discrepancy", points.size), lambda: self._discrepancies(points.training)
        )
        figures |= {f"{name}_floor": value for name, value in floor.items()}
        bandwidth = f"{self.bandwidth:.4g}, the median distance of held-out points"
        return figures | {"points": points.size, "bandwidth": bandwidth}

    def _discrepancies(self, side: Tensor) -> dict[str, float]:
        held_out = self.points.held_out
        return {
            "mmd_rbf": rbf_mmd(side, held_out, self.bandwidth),
            "energy_distance": energy_distance(side, held_out),
        }
