"""Work in chunks that shrink when memory runs out, instead of a crash after hours of training."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on an accelerator or in main memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def in_chunks(work: Callable[[Sequence[int]], Result], total: int, chunk: int) -> Iterator[Result]:
    """Yield ``work(numbers)`` for consecutive ranges of ``range(total)``, at most ``chunk`` long.

    Where memory runs out, the range is tried again at half its length, with a warning; the shorter
    length then stays.

    Args:
        work: Is given consecutive numbers; must not depend on how they are split.
        total: How many numbers there are.
        chunk: Largest length, at least 1.

    Raises:
        torch.OutOfMemoryError: If a single number does not fit; or whatever else ``work`` raises.
    """
    start = 0
    while start < total:
        numbers = range(start, min(start + chunk, total))
        try:
            result = work(numbers)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(numbers) == 1:
                raise
            chunk = len(numbers) // 2
            result = None
        if result is None:
            _give_back()
            warnings.warn(
                f"{len(numbers)} at once do not fit in memory: going on with {chunk}",
                stacklevel=2,
            )
            continue
        yield result
        start = numbers.stop


def _give_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
