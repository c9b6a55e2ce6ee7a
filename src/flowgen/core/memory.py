"""Work in chunks that shrink when memory runs out, instead of a crash after hours of training."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on an accelerator or in main memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # What the allocator of main memory says on Linux and on Windows.
    text = str(error) if isinstance(error, RuntimeError) else ""
    return "DefaultCPUAllocator" in text and "memory" in text


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
        else:
            start = numbers.stop
            yield result
            continue
        # Out here the error is gone, and with it all that its frames held.
        chunk = len(numbers) // 2
        _give_back()
        log.warning(
            "%d at once do not fit in memory, going on with chunks of %d", len(numbers), chunk
        )


def _give_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
