"""What broke in a batch: loss per time bin, and the first layers with values that are not finite.

The batch is taken through the model once more with hooks on every layer. Forward, the first layer
to answer with a value that is not finite on finite input is where it began; backward, the first
one, counted from the loss, whose input gradient is not finite.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from flowgen.core import Loss


@dataclass
class Layers:
    """What the hooks saw.

    Args:
        forward: First layer whose output was not finite, or None.
        backward: First layer, from the loss, whose input gradient was not finite, or None.
        outputs: Largest absolute output of each layer, by name; infinite where not finite.
        gradients: Largest absolute input gradient of each layer, by name.
    """

    forward: str | None = None
    backward: str | None = None
    outputs: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)


@contextmanager
def watched(model: nn.Module) -> Iterator[Layers]:
    """Record what passes through the layers (modules without children) of a model."""
    seen = Layers()
    handles = []
    for name, layer in model.named_modules():
        if any(layer.children()):
            continue
        handles.append(layer.register_forward_hook(_watch(seen, name)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def weights_not_finite(model: nn.Module) -> list[str]:
    """Return the names of parameters that hold values that are not finite."""
    return [name for name, p in model.named_parameters() if not bool(p.isfinite().all())]


def bins_not_finite(loss: Loss, num_bins: int) -> list[str]:
    """Return the time bins, as ``0.3-0.4``, in which a row's loss is not finite."""
    bad = ~loss.value.isfinite()
    index = (loss.t[bad] * num_bins).long().clamp(0, num_bins - 1).unique().tolist()
    return [f"{i / num_bins:.1f}-{(i + 1) / num_bins:.1f}" for i in index]


def _watch(seen: Layers, name: str) -> Any:
    """Return a forward hook that looks at outputs, and asks to see the gradients of the inputs."""

    def arrived(gradient: Tensor) -> None:
        largest = _largest(gradient)
        seen.gradients[name] = max(largest, seen.gradients.get(name, 0.0))
        if seen.backward is None and largest == math.inf:
            seen.backward = name

    def hook(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        del layer
        largest = _largest(output)
        seen.outputs[name] = max(largest, seen.outputs.get(name, 0.0))
        if seen.forward is None and largest == math.inf and _largest(args) < math.inf:
            seen.forward = name
        for arg in args:
            if isinstance(arg, Tensor) and arg.requires_grad:
                arg.register_hook(arrived)

    return hook


def _largest(value: Any) -> float:
    """Return the largest absolute value of all tensors inside, infinite if one is not finite."""
    if isinstance(value, Tensor):
        if not value.is_floating_point() or value.numel() == 0:
            return 0.0
        largest = float(value.detach().abs().amax())
        return math.inf if math.isnan(largest) else largest
    if isinstance(value, tuple | list):
        return max((_largest(item) for item in value), default=0.0)
    return 0.0
