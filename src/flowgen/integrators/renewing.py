"""Samplers that take noise out by an ODE step and put fresh noise in, each exactly in law.

None discretises an SDE: the part of the step that draws noise has no error at all, so that what is
left is the error of the deterministic part.
"""

import math

from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.edm_heun import level_heun
from flowgen.integrators.noise import Noise
from flowgen.integrators.points import Point
from flowgen.integrators.stepper import evaluate
from flowgen.integrators.stochastic import StochasticStepper, renoised


class StochasticDDIM(StochasticStepper):
    """``x' = alpha' D + sigma' (k e + sqrt(1 - k^2) xi)``: part of the noise is renewed in a step.

    ``1 - k^2 = eta^2 (1 - r^2)`` with ``r = alpha sigma' / (alpha' sigma)``: 0 is DDIM, 1 the
    ancestral sampling of DDPM. Of weak order 1, with a variance that is too small with few steps.

    Args:
        eta: Share of the ancestral noise, in ``[0, 1]``.

    Raises:
        InputError: If ``eta`` leaves its range.

    Source: Song et al. 2021, arXiv 2010.02502, eqs. 12 and 16, for any affine path.
    """

    order = 1

    def __init__(self, eta: float = 1.0) -> None:
        super().__init__()
        if not 0 <= eta <= 1:
            raise InputError(f"eta must be in [0, 1], got {eta}")
        self.eta = float(eta)

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
        del last
        v = evaluate(field, x, here.asked, cond)
        data, kept = here.data(x, v), here.noise(x, v)
        ratio = here.alpha * there.sigma / (there.alpha * here.sigma)
        renewed = self.eta**2 * (1 - ratio**2)
        if there.sigma == 0:
            return there.alpha * data
        kept = math.sqrt(1 - renewed) * kept + math.sqrt(renewed) * noise.like(x)
        return there.alpha * data + there.sigma * kept

    def __repr__(self) -> str:
        return f"StochasticDDIM(eta={self.eta:g})"


class EDMChurn(StochasticStepper):
    """EDM's stochastic sampler: back to a higher noise level by adding noise, then a Heun step.

    The level is raised by the factor ``1 + min(s_churn / num_steps, sqrt(2) - 1)``. Noise is added
    exactly, so the order is that of the Heun steps. Two evaluations a step, one in the last.

    Args:
        s_churn: At least 0; 0 is the deterministic sampler.
        s_min: Smallest level ``sigma / alpha`` at which noise is added.
        s_max: Largest such level.
        s_noise: Factor on the noise, above 0; slightly above 1 against models that take out too
            much.

    Raises:
        InputError: If a number leaves its range.

    Source: Karras et al. 2022, arXiv 2206.00364, algorithm 2 and table 5.
    """

    order = 2

    def __init__(
        self,
        s_churn: float = 40.0,
        s_min: float = 0.05,
        s_max: float = 50.0,
        s_noise: float = 1.003,
    ) -> None:
        super().__init__()
        if not 0 <= s_churn < math.inf:
            raise InputError(f"s_churn must be finite and >= 0, got {s_churn}")
        if not 0 <= s_min <= s_max:
            raise InputError(
                f"s_min and s_max must satisfy 0 <= s_min <= s_max, got {s_min}, {s_max}"
            )
        if not 0 < s_noise < math.inf:
            raise InputError(f"s_noise must be finite and > 0, got {s_noise}")
        self.s_churn, self.s_noise = float(s_churn), float(s_noise)
        self.s_min, self.s_max = float(s_min), float(s_max)

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
        del last
        assert self._points is not None
        assert self._leg is not None
        raised = min(self.s_churn / self._leg.num_steps, math.sqrt(2) - 1)
        if raised > 0 and self.s_min <= here.level <= self.s_max:
            back = self._points.at(self._points.time_of(here.level * (1 + raised)))
            x, here = renoised(x, here, back, noise, self.s_noise), back
        return level_heun(field, x, here, there, cond)

    def __repr__(self) -> str:
        return (
            f"EDMChurn(s_churn={self.s_churn:g}, s_min={self.s_min:g}, s_max={self.s_max:g}, "
            f"s_noise={self.s_noise:g})"
        )


class Overshoot(StochasticStepper):
    """An Euler step beyond the next node, then back to it by adding noise: weak order 1.

    From ``s`` to ``t + strength (t - s) (1 - t)``, at most to the end of the path; the last step
    overshoots nothing. One evaluation a step.

    Args:
        strength: At least 0; 0 is Euler's method.

    Raises:
        InputError: If ``strength`` is negative.

    Source: Hu et al. 2024 (AMO sampler), with one strength for all pixels.
    """

    order = 1

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        if not 0 <= strength < math.inf:
            raise InputError(f"strength must be finite and >= 0, got {strength}")
        self.strength = float(strength)

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
        assert self._points is not None
        v, h = evaluate(field, x, here.t, cond), there.t - here.t
        end = self._points.path.domain[1]
        beyond = min(there.t + self.strength * h * (1 - there.t), end)
        if last or beyond <= there.t:
            return x + h * v
        x = x + (beyond - here.t) * v
        return renoised(x, self._points.at(beyond), there, noise)

    def __repr__(self) -> str:
        return f"Overshoot(strength={self.strength:g})"
