"""``trainer=fsdp2``: data-parallel training with weights in shards (PyTorch's ``fully_shard``).

Processes are started, connected and told apart as for ``ddp``; what differs is who keeps the
weights (:mod:`flowgen.training.sharding`).
"""

from typing import Any

from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from flowgen.core import InputError
from flowgen.training.module import FlowModule
from flowgen.training.sharding import Sharding, gathered, shares_of_optimizer

NAME = "fsdp2"
"""Name of the strategy: ``trainer.strategy=fsdp2``."""


def check_shardable(module: object) -> FlowModule:
    """Return the module if it can be trained with weights in shards.

    The objective must declare ``only_calls``: that it asks the model by calling its networks, for
    values and gradients, and keeps no copy of their weights.

    Raises:
        InputError: If the objective does not, or learns weights of its own.
    """
    if not isinstance(module, FlowModule):
        raise InputError("trainer=fsdp2 trains flows only")
    objective = module.objective
    name = type(objective).__name__
    if not getattr(objective, "only_calls", False):
        raise InputError(
            f"trainer=fsdp2 keeps the model's weights in shards, and {name} does more than call "
            "the model: use trainer=ddp"
        )
    own = objective.parameters() if isinstance(objective, nn.Module) else ()
    if any(parameter.requires_grad for parameter in own):
        raise InputError(f"trainer=fsdp2: {name} learns weights of its own: use trainer=ddp")
    return module


class FullySharded(DDPStrategy):
    """Shards weights, averaged weights, gradients and optimiser states over all processes.

    ``process_group_backend`` and ``timeout`` are those of Lightning's ``DDPStrategy``.

    Raises:
        InputError: When training starts, as :func:`check_shardable` does.
    """

    def model_to_device(self) -> None:
        """Shard the fields block by block, each moved to the device, then move the rest."""
        module = check_shardable(self.lightning_module)
        assert self.parallel_devices is not None
        world = self.num_nodes * self.num_processes
        mesh = init_device_mesh(self.root_device.type, (world,))
        half = self.precision_plugin.precision == "bf16-mixed"
        module.sharding = Sharding(mesh, half)
        module.sharding.apply(module.pipeline.field, module.ema.field)
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Leave the module unwrapped: its parts reduce their gradients themselves."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return all weights whole on process 0, None for each on others; every process calls."""
        return gathered(super().lightning_module_state_dict(), keep=self.global_rank == 0)

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Return the state whole on process 0, as that of a process alone; every process calls."""
        return gathered(super().optimizer_state(optimizer), keep=self.global_rank == 0)

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        """Give the optimisers their shards of the states of a whole checkpoint."""
        states = [
            shares_of_optimizer(state, optimizer)
            for state, optimizer in zip(
                checkpoint["optimizer_states"], self.optimizers, strict=True
            )
        ]
        super().load_optimizer_state_dict({"optimizer_states": states})

    def teardown(self) -> None:
        """Clean up, but leave the shards on their devices, where they belong together."""
        assert self.cluster_environment is not None
        assert self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    @classmethod
    def register_strategies(cls, strategy_registry: Any) -> None:
        """Add this strategy to Lightning's names."""
        strategy_registry.register(NAME, cls, description="weights in shards (FSDP2)")


FullySharded.register_strategies(StrategyRegistry)
