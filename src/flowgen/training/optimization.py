"""Backward pass and optimiser step: by Lightning, or by torch where Lightning has nothing to add.

On one device and with no hook inside a step, Lightning's way round ``backward`` and ``step`` only
costs time, which shows beside a tiny network. The steps are counted where Lightning counts them, so
``trainer.global_step`` is the same.
"""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from flowgen.core import Follows
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

    def step(self) -> None:
        """Take a step of the optimiser, and of its schedule."""
        if self.plain:
            self._progress.increment_ready()
            self.optimizer.optimizer.step()
            self._progress.increment_completed()
        else:
            self.optimizer.step()
        self.schedule.step()
