"""What measures of points share: the first samples, and as many real ones of both splits."""

import torch
from torch import Tensor

from flowgen.evaluation.setting import Drawn, Setting

NOT_POINTS = "the data are images"


class Points:
    """The first samples, and as many held-out and training points.

    Args:
        setting: The evaluation.
        most: Points of each side at most, >= 2.

    Attributes:
        held_out: Held-out points.
        training: Training points, for the floor.
    """

    def __init__(self, setting: Setting, most: int) -> None:
        self.setting = setting
        splits = setting.data.test, setting.data.train
        self.size = min(most, setting.num_samples, *(len(split) for split in splits))
        self.held_out, self.training = (setting.real(split, self.size)["x_1"] for split in splits)
        self._own: list[Tensor] = []

    def update(self, drawn: Drawn) -> None:
        """Take in the samples that are used."""
        used = max(0, self.size - drawn.numbers.start)
        self._own.append(drawn.samples[:used])

    def samples(self) -> Tensor:
        """Return the first samples of all processes, as many as there are real points."""
        own = torch.cat(self._own) if self._own else self.held_out[:0]
        return torch.cat(self.setting.shards.gather(own))
