"""Counting the evaluations of a field: the honest cost of a sampler."""

from torch import Tensor

from flowgen.core import Condition, FlowMap, ScoreField, VelocityField, domain_of
from flowgen.integrators.stepper import breaks_of
from flowgen.paths import Path


class Counted:
    """The same field, counting how often it is called.

    Args:
        field: The velocity to forward to, with what it says of itself.

    Attributes:
        nfe: Number of function evaluations so far; a whole batch counts once.
        domain: Closed range of times of the field.
        breaks: Times at which the field changes its form.
        path: The path of the field, None where it does not say.
    """

    def __init__(self, field: VelocityField) -> None:
        self.field = field
        self.nfe = 0
        self.domain = domain_of(field)
        self.breaks = breaks_of(field)
        self.path: Path | None = getattr(field, "path", None)

    def __call__(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(b, *d)`` at states ``x (b, *d)`` and times ``t (b,)``."""
        self.nfe += 1
        return self.field(x, t, cond)

    def __getattr__(self, name: str) -> object:
        """Let a score or a flow map of the field's own through; those of others are not there.

        Raises:
            AttributeError: For anything else.
        """
        if name == "score" and isinstance(self.field, ScoreField):
            return self._score
        if isinstance(self.field, FlowMap):
            if name == "mean_velocity":
                return self._mean_velocity
            if name == "edges":
                return self.field.edges
        raise AttributeError(name)

    def _score(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        self.nfe += 1
        return self.field.score(x, t, cond)  # pyright: ignore[reportAttributeAccessIssue]

    def _mean_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, cond: Condition | None = None
    ) -> Tensor:
        self.nfe += 1
        return self.field.mean_velocity(x, s, t, cond)  # pyright: ignore[reportAttributeAccessIssue]
