"""Backward pass, clipping and optimiser step: by the shortest way where nothing else is asked for.

On one device and with no hook inside a step, Lightning's way round ``backward`` and ``step`` and
torch's round the norm only cost time, which shows beside a tiny network. The steps are counted
where Lightning counts them, so ``trainer.global_step`` is the same.
"""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LRScheduler

from flowgen.core import Follows
from flowgen.training.sharding import whole
from flowgen.training.stretches import plain

if TYPE_CHECKING:
    from flowgen.training.module import FlowModule


class Optimization:
    """The optimiser of a module, beside what it changes.

    Args:
        module: Attached to a trainer that has set its optimiser up.

    Attributes:
        learnt: The parameters of the optimiser.
        schedule: Of the learning rate.
        followed: Whether the objective follows the field.
    """

    def __init__(self, module: "FlowModule") -> None:
        self.module = module
        self.optimizer = cast("LightningOptimizer", module.optimizers())
        groups = self.optimizer.param_groups
        self.learnt: list[nn.Parameter] = [each for group in groups for each in group["params"]]
        self.schedule = cast("LRScheduler", module.lr_schedulers())
        # Whether an object fits a protocol takes a few operations' time to find out.
        self.followed = isinstance(module.objective, Follows)
        self.plain = plain(module.trainer)
        loop = module.trainer.fit_loop.epoch_loop
        self._progress = loop.manual_optimization.optim_step_progress

    @property
    def rate(self) -> float | Tensor:
        """The learning rate of the next step."""
        return self.schedule.get_last_lr()[0]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.learnt:
            parameter.grad = None

    def backward(self, share: Tensor, last: bool) -> None:
        """Add the gradients of a micro-batch; processes exchange them only after the last one."""
        if self.plain:
            share.backward()
            return
        block: Any = getattr(self.module.trainer.strategy, "block_backward_sync", None)
        with nullcontext() if last or block is None else block():
            self.module.manual_backward(share)

    def clip(self, most: float) -> Tensor:
        """Make the norm of all gradients together at most ``most``; return what it was, a scalar.

        Both ways give the same gradients to the last bit.
        """
        if not self.plain:
            return whole(clip_grad_norm_(self.learnt, most))
        gradients = [each.grad for each in self.learnt if each.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        scale = (most / (norm + 1e-6)).clamp(max=1.0)
        # Only on a CPU a number is read without waiting.
        if norm.device.type != "cpu" or scale.item() != 1.0:
            torch._foreach_mul_(gradients, scale)
        return norm

    def step(self) -> None:
        """Take a step of the optimiser, and of its schedule."""
        if self.plain:
            self._progress.increment_ready()
            self.optimizer.optimizer.step()
            self._progress.increment_completed()
        else:
            self.optimizer.step()
        self.schedule.step()
