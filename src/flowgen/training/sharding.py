"""Weights in shards: each process keeps a part of every weight and the whole of none.

The blocks of a transformer are sharded one by one, then what is left of the network: its forward
and backward passes gather one block at a time and let it go again. Gradients, optimiser states and
averaged weights lie in the same shards. Weights are whole again where somebody needs them whole: in
a checkpoint, which is that of a process alone, and in a copy that samples are drawn with.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from flowgen.core import InputError


@dataclass
class Sharding:
    """How the fields of a run are sharded.

    Args:
        mesh: The processes that share the weights.
        half: Whether blocks are gathered in bfloat16, as they compute. Shards and sums of gradients
            are not in half precision, nor is what is outside the blocks, such as embeddings.
    """

    mesh: DeviceMesh
    half: bool = False
    _plain: nn.Module | None = field(default=None, repr=False)

    def apply(self, *fields: nn.Module) -> None:
        """Shard fields of one architecture in place; all start with the weights of process 0.

        Raises:
            InputError: If a field has a parameter outside its networks.
        """
        if self._plain is None:
            self._plain = _without_weights(fields[-1])
        for each in fields:
            for network in _networks(each):
                blocks = getattr(network, "blocks", None)
                for block in blocks if isinstance(blocks, nn.ModuleList) else ():
                    self._shard(block, torch.bfloat16 if self.half else None)
                self._shard(network, None)

    def whole(self, sharded: nn.Module) -> nn.Module:
        """Return a copy of a sharded field with whole weights; every process must call it."""
        assert self._plain is not None
        own = dict(sharded.named_parameters())
        memo: dict[int, Any] = {
            id(empty): nn.Parameter(whole(own[name].detach()), own[name].requires_grad)
            for name, empty in self._plain.named_parameters()
        }
        buffers = dict(sharded.named_buffers())
        memo |= {id(old): buffers[name].clone() for name, old in self._plain.named_buffers()}
        return copy.deepcopy(self._plain, memo).train(sharded.training)

    def _shard(self, module: nn.Module, gathered_in: torch.dtype | None) -> None:
        for parameter in module.parameters():
            if not isinstance(parameter, DTensor):
                parameter.data = parameter.data.to(self.mesh.device_type)
                torch.distributed.broadcast(parameter.data, src=0)
        if module._compiled_call_impl is not None:
            # What gathers the weights stays outside of the compiled part.
            module._compiled_call_impl = None
            module.forward = torch.compile(module.forward)
        policy = MixedPrecisionPolicy(
            param_dtype=gathered_in,
            reduce_dtype=None if gathered_in is None else torch.float32,
            cast_forward_inputs=False,
        )
        fully_shard(module, mesh=self.mesh, mp_policy=policy, reshard_after_forward=True)


def whole(value: Tensor) -> Tensor:
    """Return a tensor whole if it lies in shards, on its device; every process must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def gathered(content: Any, *, keep: bool) -> Any:
    """Return plain containers with every sharded tensor whole, on the CPU; every process calls it.

    Args:
        content: Dicts, lists and tuples of anything.
        keep: Whether this process wants them; where it does not, they are let go at once.
    """
    if isinstance(content, dict):
        return type(content)({k: gathered(value, keep=keep) for k, value in content.items()})
    if type(content) in (list, tuple):
        return type(content)(gathered(value, keep=keep) for value in content)
    if isinstance(content, DTensor):
        full = whole(content.detach())
        return full.cpu() if keep else None
    return content


def shares(values: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each whole tensor sharded as this module's of the same name is; others unchanged."""
    return {name: _share(value, own.get(name)) for name, value in values.items()}


def shares_of_optimizer(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Return the ``state_dict`` of an optimiser sharded as the parameters of ``optimizer`` are."""
    own = [p for group in optimizer.param_groups for p in group["params"]]
    names = [name for group in state["param_groups"] for name in group["params"]]
    found = dict(state["state"])
    for name, parameter in zip(names, own, strict=True):
        if isinstance(parameter, DTensor) and name in found:
            found[name] = {
                key: _share(value, parameter) if _fits(value, parameter) else value
                for key, value in found[name].items()
            }
    return {**state, "state": found}


def _share(value: Tensor, like: Tensor | None) -> Tensor:
    """Cut this process's part out: all have the whole, so that nothing is sent."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    whole_here = value.to(like.device)
    return distribute_tensor(whole_here, like.device_mesh, like.placements, src_data_rank=None)


def _fits(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _networks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts of a field that have parameters, all of which are called as modules."""
    own = [*module.named_parameters(recurse=False)]
    own += [*getattr(module, "path", nn.Module()).named_parameters()]
    if own:
        raise InputError(f"trainer=fsdp2 cannot shard '{own[0][0]}', which is of no network")
    for part in module.children():
        if next(part.parameters(), None) is not None:
            yield part


def _without_weights(module: nn.Module) -> nn.Module:
    """Return a copy whose parameters take no memory."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), False) for p in module.parameters()
    }
    return copy.deepcopy(module, memo)
