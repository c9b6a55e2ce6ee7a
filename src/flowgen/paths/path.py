"""What all paths share: a schedule of data and source, and the times where it is finite."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import Coefficients, InputError, Pair, PathPoint, check_values
from flowgen.paths.schedule import Schedule


class Path(nn.Module, ABC):
    """A random curve from each source sample to its data sample.

    Args:
        schedule: How much data and source there is at each time.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    @property
    def domain(self) -> tuple[float, float]:
        """The closed range of times where the path and its velocity are finite."""
        return self.schedule.domain

    @property
    def initial_scale(self) -> float:
        """What a source sample is multiplied by to start at ``domain[0]``: ``sigma`` there.

        It differs from 1 where a schedule never reaches pure noise (0.988 for :class:`EDM`).
        """
        start = torch.tensor(self.domain[:1], dtype=torch.float64)
        return float(self.schedule(start).sigma)

    def coefficients(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients at times ``t`` of shape ``(b,)``, in its dtype.

        Raises:
            InputError: If ``t`` is not float32 or float64: ``1 - t`` cancels in half precision.
        """
        if t.dtype not in (torch.float32, torch.float64):
            raise InputError(f"t must be float32 or float64, got {t.dtype}")
        low, high = self.domain
        if not torch.compiler.is_compiling():
            check_values("t", t, low=low, high=high)
        return self.schedule(t)

    @abstractmethod
    def sample(
        self, pair: Pair, t: Float[Tensor, " b"], *, generator: torch.Generator | None = None
    ) -> PathPoint:
        """Return the state and the velocity of each pair at its time.

        Args:
            pair: Aligned source and data, each ``(b, *d)``.
            t: Times in ``domain``, shape ``(b,)``, float32 or float64.
            generator: For paths with noise of their own.
        """
