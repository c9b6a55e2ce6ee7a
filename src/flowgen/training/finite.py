"""Steps with a loss or a gradient that is not finite are skipped, counted, and in the end fatal.

A step that is taken with such a gradient ruins the weights for good; one that is skipped costs a
batch. The gradient norm, which clipping needs anyway, and the loss are looked at together: one
number is read from the device for each step, which waits for the backward pass that the optimiser
would wait for as well. A decision on the device alone would not do: learning-rate schedule, number
of steps and callbacks are counted on the host. Processes decide together, so that none of them
takes the step alone.
"""

import math
from collections.abc import Callable

from torch import Tensor

from flowgen.core import InputError


class FiniteGuard:
    """Decides whether a step is taken, and counts those that are not.

    Args:
        patience: Steps in a row that may be skipped before the run stops, at least 1.

    Attributes:
        skipped: Steps skipped so far.
        in_a_row: Steps skipped since the last one that was taken.

    Raises:
        InputError: If ``patience`` is below 1.
    """

    def __init__(self, patience: int) -> None:
        if patience < 1:
            raise InputError(f"max_skipped must be >= 1, got {patience}")
        self.patience = patience
        self.skipped = 0
        self.in_a_row = 0

    def takes(
        self, norm: Tensor, loss: Tensor, agree: Callable[[Tensor], Tensor] | None = None
    ) -> bool:
        """Return whether the step is to be taken, and count it if not.

        Args:
            norm: Norm of the gradient, a scalar.
            loss: Sum of the losses that it came from, a scalar.
            agree: Adds a scalar up over all processes; None for a single one.
        """
        # Infinite and not a number stay so in a sum, over processes too.
        total = norm + loss
        good = math.isfinite(total if agree is None else agree(total))
        self.in_a_row = 0 if good else self.in_a_row + 1
        self.skipped += not good
        return good

    @property
    def exhausted(self) -> bool:
        """Whether too many steps in a row were skipped."""
        return self.in_a_row >= self.patience

    def state(self) -> dict[str, int]:
        """Return the counts."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load(self, state: dict[str, int]) -> None:
        """Go on with the counts of :meth:`state`."""
        self.skipped, self.in_a_row = int(state["skipped"]), int(state["in_a_row"])
