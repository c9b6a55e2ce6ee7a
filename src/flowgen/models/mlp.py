"""Multilayer perceptron for vectors, and for any small sample taken as a vector.

``h_{k+1} = h_k + f(W_k h_k (1 + a_k) + b_k)`` with scale and shift ``a_k, b_k`` linear in the
condition vector ``c``. Two-dimensional flows bend sharply in ``x`` at late times and hardly at all
at early ones: scaling the features by the time lets a narrow network do both.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, flatten
from flowgen.models.checks import check_inputs, check_positive, sample_shape
from flowgen.models.conditioning import ConditionEmbedding


class MLP(nn.Module):
    """Residual perceptron with time and labels; the output has the shape of the input.

    Args:
        shape: Shape of one sample, any number of axes.
        num_classes: Number of labels, or None for an unconditional network.
        width: Features of each layer, at least 1.
        depth: Number of hidden layers, at least 1.
        activation: Applied to each layer, without parameters; SiLU if None.
        interval: Whether it is told the length of a jump, as the network of a flow map is.
        guided: Whether it is told the scale of its guidance, as a student for a range of them is.
        max_frequency: Of the embedding of times, radians per unit of time, above 1; low ones make
            the network smooth in time, which few-step methods need that differentiate it.

    Raises:
        InputError: If an argument is not positive or the activation has parameters.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int | None = None,
        *,
        width: int = 128,
        depth: int = 3,
        activation: nn.Module | None = None,
        interval: bool = False,
        guided: bool = False,
        max_frequency: float = 100.0,
    ) -> None:
        super().__init__()
        self.shape = sample_shape(shape)
        check_positive(width=width, depth=depth)
        self.activation = nn.SiLU() if activation is None else activation
        if any(True for _ in self.activation.parameters()):
            raise InputError("activation must have no parameters: all layers share it")
        size = math.prod(self.shape)
        self.condition = ConditionEmbedding(
            num_classes, width, interval=interval, guided=guided, max_frequency=max_frequency
        )
        self.modulation = nn.Linear(width, 2 * depth * width)
        self.embed = nn.Linear(size, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, size)
        for zero in (self.modulation, self.out):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the network output, shape ``(b, *shape)``.

        Args:
            x: States, shape ``(b, *shape)``.
            t: Times in ``[0, 1]``, shape ``(b,)``.
            cond: ``{"label": int64 (b,)}`` for a conditional network, else None.

        Raises:
            InputError: If shapes, types or conditions are not those the network was built for.
        """
        check_inputs(x, t, self.shape)
        c = self.condition(t, cond)
        parts = self.modulation(self.activation(c)).chunk(2 * len(self.layers), dim=1)
        h = self.embed(flatten(x).to(self.embed.weight.dtype)) + c
        for layer, scale, shift in zip(self.layers, parts[::2], parts[1::2], strict=True):
            h = h + self.activation(torch.addcmul(shift, layer(h), 1 + scale))
        return self.out(h).reshape(x.shape)
