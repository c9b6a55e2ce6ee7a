"""A second network that learns what the student's samples are, while the student learns.

It starts as the teacher. Trained by flow matching on samples of the student its velocity is that of
their noised marginals; a small head on its features, trained to tell them from noised data, says at
its best the log ratio of the two densities. Its parameters ask for gradients only while it is
itself updated, so losses of the student pass through it and leave nothing behind.

Where samples come from several nodes it is told which: else only the mixture over the nodes would
be matched, and samples of one could make up for what those of another lack.
"""

import copy
from operator import attrgetter

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import Condition, InputError, VelocityField, domain_of
from flowgen.distill.frozen import Frozen
from flowgen.models import ConditionEmbedding, ToldScale
from flowgen.models.diffusers_network import Summands

_NODE = "node"


class Critic(nn.Module):
    """A trainable copy of a teacher, which may also tell samples from data.

    It never drops features, in whatever mode its owner is. Where the teacher is told a scale of
    guidance, so is the critic: samples of each scale have a law of their own.

    Args:
        teacher: Where it starts: the network of the field, without guidance.
        layer: Name of the network's last layer (``out`` in all networks), whose inputs a head
            judges; None for no head.
        width: Features of the head.
        nodes: How many nodes samples come from, at least 1.

    Attributes:
        domain: The closed range of times where its velocity is finite.

    Raises:
        InputError: If the teacher has no network to copy, no such layer, or with several nodes
            or scales nothing called ``condition`` that they can be added to.

    Source: Yin et al. 2024 (DMD2), arXiv 2405.14867, sections 3 and 4: fake score and GAN head.
    """

    def __init__(
        self,
        teacher: VelocityField,
        *,
        layer: str | None = None,
        width: int = 64,
        nodes: int = 1,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("nodes", nodes)):
            if value < 1:
                raise InputError(f"critic.{name} must be >= 1, got {value}")
        self.field = copy.deepcopy(_innermost(teacher))
        self.domain = domain_of(self.field)
        self.nodes = int(nodes)
        if self.nodes > 1:
            _condition_of(self._network, "node").add_classes(_NODE, self.nodes)
        if _is_told(teacher):
            _condition_of(self._network, "scale").add_guidance()
        self.layer = layer
        self.head = None if layer is None else Head(self._tapped(layer), width)
        self.requires_grad_(False).eval()

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Condition | None = None,
        *,
        node: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the velocity of the samples and, with a head, logits of being data.

        Args:
            x: Noised states, shape ``(b, *d)``.
            t: Their times, shape ``(b,)``; clamped to :attr:`domain`.
            cond: Conditions of the rows.
            node: Number of the node that each sample comes from, int64 ``(b,)``; None for the
                first.

        Returns:
            Shapes ``(b, *d)`` and ``(b,)``; None without a head.
        """
        t = t.clamp(*self.domain)
        if self.nodes > 1:
            first = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            cond = {**(cond or {}), _NODE: first if node is None else node}
        if self.layer is None or self.head is None:
            return self.field(x, t, cond).to(x.dtype), None
        seen: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            del module
            seen.append(inputs[0])

        handle = self._tapped(self.layer).register_forward_pre_hook(keep)
        try:
            velocity = self.field(x, t, cond).to(x.dtype)
        finally:
            handle.remove()
        return velocity, self.head(seen[-1]).to(torch.promote_types(x.dtype, torch.float32))

    def train(self, mode: bool = True) -> "Critic":
        """Stay in evaluation mode, whatever the owner does."""
        del mode
        return super().train(False)

    @property
    def _network(self) -> nn.Module:
        return getattr(self.field, "network", self.field)

    def _tapped(self, layer: str) -> nn.Module:
        try:
            # By attribute, since a network that wraps another names its last layer by a property.
            found = attrgetter(layer)(self._network)
        except AttributeError:
            found = None
        if not isinstance(found, nn.Module):
            names = ", ".join(name for name, _ in self._network.named_children())
            raise InputError(f"the network has no layer '{layer}' for the critic's head: {names}")
        return found


class Head(nn.Module):
    """A two-layer perceptron at every place of a feature map, averaged over the places.

    Args:
        layer: The linear layer or convolution whose inputs it judges.
        width: Hidden features.

    Raises:
        InputError: If the layer is neither.
    """

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        if isinstance(layer, nn.Linear):
            self.axis, size = -1, layer.in_features
        elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            self.axis, size = 1, layer.in_channels
        else:
            raise InputError(
                "the critic's head reads the inputs of a linear layer or a convolution, not of a "
                f"{type(layer).__name__}"
            )
        self.norm = nn.LayerNorm(size)
        self.hidden = nn.Linear(size, width)
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Float[Tensor, " b"]:
        """Return logits ``(b,)`` of features ``(b, ..., k)`` or ``(b, k, ...)``; 0 at the start."""
        places = features.movedim(self.axis, -1).flatten(1, -2) if features.ndim > 2 else features
        places = places.to(self.hidden.weight.dtype)
        logits = self.out(nn.functional.silu(self.hidden(self.norm(places)))).squeeze(-1)
        return logits if logits.ndim == 1 else logits.mean(dim=1)


def _condition_of(network: nn.Module, what: str) -> ConditionEmbedding | Summands:
    """Return where one more summand, 0 at the start, can be added to the condition."""
    condition = getattr(network, "condition", None)
    if not isinstance(condition, ConditionEmbedding | Summands):
        raise InputError(
            f"{type(network).__name__} cannot be told which {what} a sample comes from: its critic "
            f"judges samples of a single {what}"
        )
    return condition


def _is_told(teacher: VelocityField) -> bool:
    """Return whether a teacher is told its scale of guidance."""
    return isinstance(teacher.field if isinstance(teacher, Frozen) else teacher, ToldScale)


def _innermost(teacher: VelocityField) -> nn.Module:
    """Return the field that has the network, without guidance around it."""
    field: object = teacher
    while isinstance(field, Frozen) or (
        not hasattr(field, "network") and isinstance(getattr(field, "field", None), nn.Module)
    ):
        field = field.field  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(field, nn.Module):
        raise InputError(
            f"a critic starts as the teacher's network, and {type(field).__name__} has none"
        )
    return field
