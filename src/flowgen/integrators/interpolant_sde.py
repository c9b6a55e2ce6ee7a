"""Steps of ``dX = (b + epsilon s) dt + sqrt(2 epsilon) dW`` with a score that was learnt.

Any ``epsilon >= 0`` leaves the marginals as they are; it is chosen after the training. For the
Brownian bridge of scale ``sigma`` between entropic pairs, ``epsilon = sigma^2 / 2`` gives the
Schroedinger bridge itself, with the right law of whole trajectories.
"""

import copy
import math

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, ScoreField, VelocityField
from flowgen.integrators.stepper import Leg, Time, accumulating, evaluate


class InterpolantSDE:
    """Euler-Maruyama for fields with a score of their own; two networks a step, weak order 1.

    The last step adds no noise. At the ends of the path the score grows as ``1 / gamma``, so steps
    there must be small where ``epsilon`` is large.

    Args:
        diffusion: ``epsilon``, in squared units of the data, >= 0; 0 is Euler's method.

    Raises:
        InputError: If ``diffusion`` is negative or not finite.

    Source: Albergo, Boffi and Vanden-Eijnden 2023, arXiv 2303.08797, eq. 2.33; Tong et al. 2024,
        arXiv 2307.03672, section 3.
    """

    order = 1
    stochastic = True
    learned_score = True

    def __init__(self, diffusion: float = 0.5) -> None:
        if not 0 <= diffusion < math.inf:
            raise InputError(f"diffusion must be >= 0 and finite, got {diffusion}")
        self.diffusion = float(diffusion)
        self._leg: Leg | None = None

    def begin(self, field: VelocityField, x: Float[Tensor, "b *d"], leg: Leg) -> "InterpolantSDE":
        """Return the same method with the noise of one leg.

        Raises:
            InputError: If there is no noise, the leg runs backwards, or the field has no score.
        """
        del x
        if leg.noise is None:
            raise InputError(f"{self!r} draws random numbers: pass noise=Noise(seed, numbers)")
        if leg.nodes[-1] < leg.nodes[0]:
            raise InputError(
                f"{self!r} runs from source to data only: use an ODE stepper such as Heun() for "
                "the way back"
            )
        if not isinstance(field, ScoreField):
            raise InputError(
                f"{self!r} needs a field with a learnt score: train with objective=flow_and_score "
                "and a path with latent noise, and sample without guidance"
            )
        fresh = copy.copy(self)
        fresh._leg = leg
        return fresh

    def step(
        self,
        field: VelocityField,
        x: Float[Tensor, "b *d"],
        s: Time,
        t: Time,
        cond: Condition | None = None,
    ) -> Float[Tensor, "b *d"]:
        """Return the state at time ``t``.

        Args:
            field: The velocity, with its score.
            x: States ``(b, *d)`` at time ``s``.
            s: Where the step starts, in ``[0, 1]``.
            t: Where it ends, in ``[0, 1]``, above ``s``.
            cond: Conditions of the rows.

        Returns:
            States ``(b, *d)`` at ``t``, float32 at least.

        Raises:
            InputError: If it was not begun for a trajectory, and so has no random numbers.
        """
        if self._leg is None or self._leg.noise is None or not isinstance(field, ScoreField):
            raise InputError(f"{self!r} draws random numbers: integrate it with noise=")
        x, h = accumulating(x), float(t) - float(s)
        drift = evaluate(field, x, s, cond)
        if self.diffusion > 0:
            drift = drift + self.diffusion * evaluate(field.score, x, s, cond)
        moved = x + h * drift
        if self._leg.final and float(t) == self._leg.nodes[-1]:
            return moved
        return moved + math.sqrt(2 * self.diffusion * h) * self._leg.noise.like(x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.diffusion:g})"
