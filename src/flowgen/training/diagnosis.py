"""What broke in a batch: the times, and the first layer that is not finite.

The batch is taken through the model once more with hooks on every module. Forward, the first one to
answer with a value that is not finite on finite input is where it began. Backward, it is the one
that is given a finite gradient and passes on one that is not; where several do, the innermost one
nearest to the loss. Each module is given an alias of its input, so that a tensor that goes to
several modules, as in a residual block, has the gradient of each of them apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from flowgen.core import Loss

INFINITE = float("inf")


@dataclass
class Layers:
    """What the hooks saw.

    Args:
        outputs: Largest absolute output of each module, by name and in the order of the forward
            pass; infinite where one is not finite.
        gradients: Largest absolute gradient with respect to these outputs, by name.
        forward: First module whose output was not finite on finite input, or None.
    """

    outputs: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    forward: str | None = None
    _passed_on: dict[str, float] = field(default_factory=dict)

    @property
    def backward(self) -> str | None:
        """First module, from the loss, that made a gradient not finite, or None."""
        made = [
            name
            for name in self.outputs
            if self._passed_on.get(name) == INFINITE and self.gradients.get(name, 0.0) < INFINITE
        ]
        inner = [
            name
            for name in made
            if not any(_inside(other, name) for other in made if other != name)
        ]
        return inner[-1] if inner else None


@contextmanager
def watched(model: nn.Module) -> Iterator[Layers]:
    """Record what passes through the modules of a model."""
    seen = Layers()
    handles: list[Any] = []
    for name, layer in model.named_modules():
        handles.append(
            layer.register_forward_pre_hook(partial(_before, seen, name), with_kwargs=True)
        )
        handles.append(layer.register_forward_hook(partial(_after, seen, name), with_kwargs=True))
        handles += [
            parameter.register_hook(partial(_note, seen._passed_on, name))
            for parameter in layer.parameters(recurse=False)
            if parameter.requires_grad
        ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def weights_not_finite(model: nn.Module) -> list[str]:
    """Return the names of parameters that hold values that are not finite."""
    return [name for name, p in model.named_parameters() if not bool(p.isfinite().all())]


def bins_not_finite(loss: Loss, num_bins: int) -> list[int]:
    """Return the time bins in which a row's loss is not finite."""
    bad = ~loss.value.isfinite()
    return (loss.t[bad] * num_bins).long().clamp(0, num_bins - 1).unique().tolist()


def _before(seen: Layers, name: str, layer: nn.Module, args: Any, kwargs: Any) -> Any:
    del layer

    def alias(value: Any) -> Any:
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            value = value.view_as(value)
            value.register_hook(partial(_note, seen._passed_on, name))
        return value

    return tree_map(alias, args), tree_map(alias, kwargs)


def _after(seen: Layers, name: str, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
    del layer
    largest = _largest(output)
    seen.outputs[name] = max(largest, seen.outputs.get(name, 0.0))
    if seen.forward is None and largest == INFINITE and _largest((args, kwargs)) < INFINITE:
        seen.forward = name
    for value in tree_leaves(output):
        if isinstance(value, Tensor) and value.requires_grad:
            value.register_hook(partial(_note, seen.gradients, name))


def _note(largest: dict[str, float], name: str, gradient: Tensor) -> None:
    largest[name] = max(_largest(gradient), largest.get(name, 0.0))


def _inside(name: str, other: str) -> bool:
    return other == "" or name.startswith(f"{other}.")


def _largest(value: Any) -> float:
    """Return the largest absolute value of all tensors inside, infinite if one is not finite."""
    largest = 0.0
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel():
            found = float(leaf.detach().abs().amax())
            largest = max(largest, found) if found == found else INFINITE
    return largest
