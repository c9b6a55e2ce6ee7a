"""A contest of student and critic: tell the student's noised samples from noised data.

At its best the critic's logit is ``log(p_data / p_samples)`` (Goodfellow et al. 2014), which the
relativistic form knows up to a constant only.
"""

import math
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from flowgen.core import InputError


@runtime_checkable
class Contest(Protocol):
    """What student and critic each minimise, of logits of samples and of data.

    Attributes:
        relative: Whether a sample is compared with a datum. Then the student's loss needs logits of
            data, and the best logit is the log ratio of the densities up to a constant only.
    """

    relative: bool

    def student(self, samples: Float[Tensor, " b"], data: Float[Tensor, " b"]) -> Tensor:
        """Return the student's loss ``(b,)``; only ``samples`` depend on it."""
        ...

    def critic(self, samples: Float[Tensor, " b"], data: Float[Tensor, " b"]) -> Tensor:
        """Return the critic's loss ``(b,)``."""
        ...


class Logistic:
    """The non-saturating game: ``softplus(-d)`` for what should be data, else ``softplus(d)``.

    Source: Goodfellow et al. 2014, arXiv 1406.2661; as in DMD2, arXiv 2405.14867.
    """

    relative = False

    def student(
        self, samples: Float[Tensor, " b"], data: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return ``softplus(-samples)``."""
        del data
        return softplus(-samples)

    def critic(
        self, samples: Float[Tensor, " b"], data: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return ``softplus(samples) + softplus(-data)``."""
        return softplus(samples) + softplus(-data)


class Relativistic:
    """Pairs of one sample and one datum: which of the two is the datum?

    It has less reason to drop modes than :class:`Logistic`.

    Source: Jolicoeur-Martineau 2018, arXiv 1807.00734; Huang et al. 2024, arXiv 2501.05441.
    """

    relative = True

    def student(
        self, samples: Float[Tensor, " b"], data: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return ``softplus(data - samples)``."""
        return softplus(data - samples)

    def critic(
        self, samples: Float[Tensor, " b"], data: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return ``softplus(samples - data)``."""
        return softplus(samples - data)


class Adversary:
    """How much a contest counts.

    Args:
        contest: :class:`Logistic` if None.
        weight: Factor of the student's loss, at least 0; 0 trains the head for its density ratio.
        of_critic: Factor of the critic's loss, > 0, beside that of its velocity.
        smoothness: Factor, at least 0, of ``(d(x) - d(x + radius n))^2`` at noised data, which
            keeps the logits flat there (approximate R1).
        radius: Size of that step, > 0, in units of model space.

    Raises:
        InputError: If a number leaves its range.

    Source: Yin et al. 2024 (DMD2), arXiv 2405.14867; Lin et al. 2025, arXiv 2501.08316 (R1).
    """

    def __init__(
        self,
        contest: Contest | None = None,
        *,
        weight: float = 1e-3,
        of_critic: float = 1.0,
        smoothness: float = 0.0,
        radius: float = 0.1,
    ) -> None:
        for name, value in (("weight", weight), ("smoothness", smoothness)):
            if not 0 <= value < math.inf:
                raise InputError(f"adversary.{name} must be finite and >= 0, got {value}")
        for name, value in (("of_critic", of_critic), ("radius", radius)):
            if not 0 < value < math.inf:
                raise InputError(f"adversary.{name} must be finite and > 0, got {value}")
        self.contest: Contest = Logistic() if contest is None else contest
        self.weight = float(weight)
        self.of_critic = float(of_critic)
        self.smoothness = float(smoothness)
        self.radius = float(radius)
