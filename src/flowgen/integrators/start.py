"""Where the integration begins, if not at the source."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from flowgen.core import Condition


@runtime_checkable
class Start(Protocol):
    """Takes source samples to states at a later time, without the field.

    Attributes:
        time: Of these states, in (0, 1): the steps go from there to 1.
    """

    time: float

    def __call__(self, x_0: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the states ``(b, *d)`` at :attr:`time` of standard source samples ``(b, *d)``."""
        ...
