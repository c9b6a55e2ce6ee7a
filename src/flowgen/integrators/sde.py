"""Steps of the SDE ``dX = [v + w s] dt + sqrt(2 w) dW`` with the score ``s`` and any rate ``w(t)``.

Source: Ma et al. 2024 (SiT), arXiv 2401.08740, section 2.2 and its samplers; Kloeden and Platen
1992, "Numerical Solution of Stochastic Differential Equations", chapter 14.
"""

import math

from torch import Tensor

from flowgen.core import Condition, VelocityField
from flowgen.integrators.diffusion import Diffusion, SigmaDiffusion
from flowgen.integrators.last_step import LastMean, LastStep
from flowgen.integrators.noise import Noise
from flowgen.integrators.points import Point
from flowgen.integrators.stepper import evaluate
from flowgen.integrators.stochastic import StochasticStepper


class EulerMaruyama(StochasticStepper):
    """``x + h (v + w s) + sqrt(2 w h) xi``: weak order 1, one evaluation a step.

    Args:
        diffusion: The rate ``w``; ``SigmaDiffusion()`` if None.
        last: The last step; ``LastMean()`` if None.
    """

    order = 1

    def __init__(self, diffusion: Diffusion | None = None, last: LastStep | None = None) -> None:
        super().__init__()
        self.diffusion = SigmaDiffusion() if diffusion is None else diffusion
        self.last = LastMean() if last is None else last

    def _move(
        self,
        field: VelocityField,
        x: Tensor,
        here: Point,
        there: Point,
        cond: Condition | None,
        noise: Noise,
        last: bool,
    ) -> Tensor:
        v, w, h = evaluate(field, x, here.asked, cond), self.diffusion(here), there.t - here.t
        if last:
            return self.last(x, v, w, here, there)
        return x + h * (v + w * here.score(x, v)) + math.sqrt(2 * w * h) * noise.like(x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.diffusion!r}, {self.last!r})"


class StochasticHeun(EulerMaruyama):
    """Noise first, then a Heun step of the drift: weak order 1, two evaluations a step.

    ``y = x + sqrt(2 w h) xi``, then ``y + h/2 (k_1 + k_2)`` with the drift ``k = v + w s``, as SiT
    samples. The last step costs one evaluation.
    """

    def _move(
        self,
        field: VelocityField,
        x: Tensor,
        here: Point,
        there: Point,
        cond: Condition | None,
        noise: Noise,
        last: bool,
    ) -> Tensor:
        if last:
            return super()._move(field, x, here, there, cond, noise, last)
        h = there.t - here.t
        x = x + math.sqrt(2 * self.diffusion(here) * h) * noise.like(x)
        first = self._drift(field, x, here, cond)
        second = self._drift(field, x + h * first, there, cond)
        return x + (h / 2) * (first + second)

    def _drift(
        self, field: VelocityField, x: Tensor, point: Point, cond: Condition | None
    ) -> Tensor:
        v = evaluate(field, x, point.asked, cond)
        return v + self.diffusion(point) * point.score(x, v)
