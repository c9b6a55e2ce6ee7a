"""The processes that share one evaluation: each samples its share, all learn the same figures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowgen.core import InputError


def _alone(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True)
class Shards:
    """Who this process is among those that evaluate together.

    Args:
        rank: Number of this process, from 0.
        count: How many there are, >= 1.
        gather: From a picklable value of this process to the values of all, by rank; every process
            calls it as often and in the same order.

    Raises:
        InputError: Unless ``0 <= rank < count``.
    """

    rank: int = 0
    count: int = 1
    gather: Callable[[Any], list[Any]] = _alone

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.rank < self.count:
            raise InputError(f"rank must lie in [0, {self.count}), got {self.rank}")

    def share(self, total: int) -> range:
        """Return the numbers out of ``0 .. total - 1`` that fall to this process, in one piece.

        The shares of all processes follow each other by rank and differ in length by 1 at most.
        """
        return range(total * self.rank // self.count, total * (self.rank + 1) // self.count)
