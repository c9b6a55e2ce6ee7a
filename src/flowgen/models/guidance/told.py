"""A field guided by a scale that every row is told.

Guidance is an extrapolation, so it is known at every scale from what it is at two:
``v_w = v_0 + w (v_1 - v_0)``, with the unconditional (or the weaker) velocity at 0 and the field's
own at 1. That holds for every rule here but a rescaled velocity.
"""

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, VelocityField, domain_of, expand
from flowgen.models.conditioning import GUIDANCE
from flowgen.paths import Path


class ToldScale(nn.Module):
    """``v_0 + w (v_1 - v_0)`` with the scale ``w`` of each row in ``cond["guidance"]``.

    Args:
        field: Guided at scale 1.
        without: Guided at scale 0.

    Attributes:
        breaks: Times at which the field changes its form.
    """

    def __init__(self, field: VelocityField, without: VelocityField) -> None:
        super().__init__()
        self.field = field
        self.without = without
        both = (*getattr(field, "breaks", ()), *getattr(without, "breaks", ()))
        self.breaks: tuple[float, ...] = tuple(sorted({*both}))

    @property
    def domain(self) -> tuple[float, float]:
        """The closed range of times where the guided field is finite."""
        (low, high), (other_low, other_high) = domain_of(self.field), domain_of(self.without)
        return max(low, other_low), min(high, other_high)

    @property
    def path(self) -> Path | None:
        """The path of the field, None where it does not say."""
        return getattr(self.field, "path", None)

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the guided velocity ``(b, *d)``.

        Args:
            x: States ``(b, *d)``.
            t: Times ``(b,)``.
            cond: The scales ``(b,)`` as ``guidance``, and what the fields take.

        Raises:
            InputError: If there are no scales.
        """
        if cond is None or GUIDANCE not in cond:
            raise InputError("this field is told its scale: give cond['guidance'], shape (b,)")
        others = {name: value for name, value in cond.items() if name != GUIDANCE} or None
        full, none = self.field(x, t, others), self.without(x, t, others)
        scale = cond[GUIDANCE]
        scale = scale.to(torch.promote_types(scale.dtype, full.dtype))
        return none + expand(scale, full).to(full.dtype) * (full - none)
