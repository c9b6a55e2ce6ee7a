"""The mean of exponentials over the batches of a run, and over its processes."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError


class RunningLogMean:
    """The logarithm of the running mean of ``exp(values)``, kept as an average of logarithms.

    The plain average of the first batches, later an exponential one; after ``warm_up`` batches it
    stays. Being nearly constant it scales what is divided by it without the bias of a mean of the
    same batch. Where several processes train, it is the mean over all of them.

    Args:
        decay: Of the exponential average, in [0, 1).
        warm_up: Batches after which it no longer changes, >= 1; None for never.

    Raises:
        InputError: If a number is out of range.
    """

    def __init__(self, decay: float = 0.99, warm_up: int | None = None) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"decay must be in [0, 1), got {decay}")
        if warm_up is not None and warm_up < 1:
            raise InputError(f"warm_up must be >= 1 or None for never, got {warm_up}")
        self.decay = decay
        self.warm_up = warm_up
        self.value = torch.zeros(())
        self.count = torch.zeros((), dtype=torch.int64)
        self._group: Any = None

    def update(self, values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Take in ``values (n,)`` and return the logarithm of the mean; without waiting.

        A batch that is not finite, as damaged data make it, is left out.
        """
        new = self._over_all(values)
        count, value = self.count.to(new.device), self.value.to(new)
        rate = torch.clamp(1 / (count + 1), min=1 - self.decay).to(new)
        usable = new.isfinite()
        if self.warm_up is not None:
            rate = torch.where(count < self.warm_up, rate, torch.zeros_like(rate))
        self.value = torch.where(usable, value + rate * (new - value), value)
        self.count = count + usable
        return self.value

    def state_dict(self) -> dict[str, Tensor]:
        """Return what it needs to go on."""
        return {"value": self.value, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            InputError: If the state is not one of these.
        """
        if set(state) != {"value", "count"}:
            raise InputError(f"a running mean has a value and a count, got {sorted(state)}")
        self.value, self.count = torch.as_tensor(state["value"]), torch.as_tensor(state["count"])

    def _over_all(self, values: Tensor) -> Tensor:
        """Return ``log mean exp`` of the values of all processes."""
        total = values.logsumexp(0)
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return total - math.log(len(values))
        if self._group is None:
            # Pairs may be made in a thread, beside the exchange of gradients: a channel of its own.
            self._group = dist.new_group(backend="gloo")
        mine = torch.stack([total.double(), total.new_tensor(len(values)).double()]).cpu()
        found = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(found, mine, group=self._group)
        sums, counts = torch.stack(found).unbind(dim=1)
        return (sums.logsumexp(0) - counts.sum().log()).to(values)
