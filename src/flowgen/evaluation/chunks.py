"""Work in chunks that shrink where memory does not suffice: an evaluation is worth finishing."""

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from flowgen.core import InputError, is_out_of_memory

T = TypeVar("T")

log = logging.getLogger(__name__)


class Chunks:
    """A size of chunks that halves, with a warning, whenever the memory runs out.

    The smaller size stays for all that comes after. As a sample does not depend on the chunk it is
    drawn in, the figures stay the same up to rounding.

    Args:
        size: Items at once to begin with, >= 1.

    Raises:
        InputError: If ``size < 1``.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise InputError(f"chunk must be >= 1, got {size}")
        self.size = size

    def over(self, numbers: range, work: Callable[[range], T]) -> Iterator[T]:
        """Yield ``work(part)`` for consecutive parts of ``numbers`` of :attr:`size` or less.

        Raises:
            InputError: If the memory does not even suffice for one item.
        """
        start = numbers.start
        while start < numbers.stop:
            part = range(start, min(start + self.size, numbers.stop))
            try:
                result = work(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise InputError("out of memory while evaluating a single sample") from error
                self.size = len(part) // 2
            else:
                yield result
                start = part.stop
                continue
            # Here the failed attempt's tensors, held by its traceback, are free again.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.warning("out of memory while evaluating: going on with chunk=%d", self.size)
