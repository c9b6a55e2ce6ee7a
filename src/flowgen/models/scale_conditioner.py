"""A student that is told the scale of its guidance, in place of being evaluated twice for it.

In training the scale of each row is drawn uniformly from a range, the teacher is guided by it and
the student sees it as the condition ``guidance (b,)``. Sampling gives all rows one scale.

Source: Meng et al. 2023, arXiv 2210.03142, section 3.1; Lu and Song 2024, arXiv 2410.11081.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgen.core import Condition, Count, InputError
from flowgen.models.conditioner import Conditioner
from flowgen.models.conditioning import GUIDANCE


class ScaleConditioner:
    """The conditions of another conditioner, if any, and the scale of guidance.

    Args:
        base: Makes the other conditions; None for an unconditional model.
        low: Smallest scale, in ``[0, 1]``.
        high: Largest, at least 1.

    Attributes:
        scale: What samples are told; 1, no guidance, unless chosen by :meth:`at`.

    Raises:
        InputError: If the numbers do not rise, or 1 is not between them.
    """

    def __init__(self, base: Conditioner | None, low: float, high: float) -> None:
        self.base = base
        self.low, self.high = check_range((low, high))
        self.scale = 1.0

    def at(self, scale: float) -> "ScaleConditioner":
        """Return the same conditioner with another scale for samples.

        Raises:
            InputError: If the student was not trained for it.
        """
        if not self.low <= scale <= self.high:
            raise InputError(
                f"guidance.scale={scale:g} is outside of the range that this student was trained "
                f"for: {self.low:g} to {self.high:g}"
            )
        other = copy.copy(self)
        other.scale = float(scale)
        return other

    @property
    def kinds(self) -> tuple[str, ...]:
        """What users may ask for by name: the other conditions."""
        return () if self.base is None else self.base.kinds

    @property
    def dropout(self) -> float:
        """Share of rows whose other conditions training empties."""
        return 0.0 if self.base is None else self.base.dropout

    def use(self, captions: Sequence[str] | None) -> None:
        """Prepare for batches of a data set, see :class:`Conditioner`."""
        if self.base is not None:
            self.base.use(captions)

    def take(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the conditions of a batch of data."""
        first = next(iter(batch.values()))
        found = {} if self.base is None else self.base.take(batch)
        return found | self._told(len(first), first.device)

    def rows(
        self,
        asked: Mapping[str, Any],
        numbers: Sequence[int],
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Return the conditions of samples, see :class:`Conditioner`."""
        found = {} if self.base is None else self.base.rows(asked, numbers, device)
        return found | self._told(len(numbers), device)

    def null(self, n: Count, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """Return the conditions that mean "none", and the scale."""
        found = {} if self.base is None else self.base.null(n, device)
        return found | self._told(n, device)

    def drop(
        self, cond: Condition, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the conditions as training shows them: some emptied, every scale drawn anew."""
        others = {name: value for name, value in cond.items() if name != GUIDANCE}
        found = dict(others)
        if self.base is not None:
            found = self.base.drop(others, generator=generator)
        like = cond[GUIDANCE]
        share = torch.rand(like.shape, generator=generator, device=like.device)
        return found | {GUIDANCE: self.low + (self.high - self.low) * share}

    def _told(self, n: Count, device: torch.device | str | None) -> dict[str, Tensor]:
        return {GUIDANCE: torch.full((n,), self.scale, dtype=torch.float32, device=device)}


def check_range(scales: Any) -> tuple[float, float]:
    """Return a range of scales as two numbers; what a user wrote may be anything.

    Raises:
        InputError: Unless they are two numbers, rising, finite, at least 0, with 1 between them.
    """
    try:
        found = [float(scale) for scale in scales]
    except (TypeError, ValueError):
        found = []
    if len(found) != 2 or not 0 <= found[0] <= 1 <= found[1] < math.inf or found[0] == found[1]:
        raise InputError(
            "guidance_range must be two rising scales with 1 (no guidance, where the student "
            f"begins) between them, e.g. [1, 4], got {scales}"
        )
    return found[0], found[1]
