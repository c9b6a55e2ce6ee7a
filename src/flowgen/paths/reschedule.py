"""Another schedule after training: the same model, followed along another path.

Affine paths with one coupling pass through the same states up to a scale. At sampling time ``r``
let ``t`` be the time at which the trained schedule has the ratio ``A_r : S_r`` of the sampling
schedule, and ``c`` the ratio of their lengths: ``(A, S) = c (alpha, sigma)``, ``X_r = c X_t`` and

    ``u(x, r) = (d log c / dr) x + c (dt / dr) v(x / c, t)``.

With ``N^2 = alpha^2 + sigma^2`` and the Wronskian ``W = d_alpha sigma - alpha d_sigma``,
``c = N_r / N_t`` and ``dt / dr = W_r / (c^2 W_t)``: no division by ``alpha`` or ``sigma``, so
nothing is special at an end where one of them is 0.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import Coefficients, Condition, VelocityField, domain_of, expand
from flowgen.paths.affine import AffinePath
from flowgen.paths.schedule import SINGULAR_GAP, Schedule

_ROUNDING = 1e-6  # relative; a ratio this close to the end of the trained range counts as inside


class Rescheduled(nn.Module):
    """A field trained on one schedule, as the velocity field of another one.

    Exact wherever the trained field is. Where the sampling schedule asks for a ratio of signal to
    noise beyond those the field knows (its own domain and that of ``trained``), ``t`` stays at the
    end of its range and states are only scaled: there the followed states are ``c X_t`` with ``t``
    fixed, so nothing is extrapolated and the field stays finite.

    Start at ``r = domain[0]`` from ``initial_scale`` times a source sample. The scale is 1 for
    every ``sampling`` with ``alpha = 0`` and ``sigma = 1`` at ``t = 0``; it is 80/81 for
    :class:`EDM`. The end state at ``r = domain[1]`` is ``c X_t`` too, with ``c = 1`` for schedules
    that end at ``alpha = 1``, ``sigma = 0``.

    Args:
        field: Velocity field of ``trained``.
        trained: The schedule ``field`` was trained on.
        sampling: The schedule to follow.

    Attributes:
        domain: Closed range of ``r`` where the field is finite.
        initial_scale: Standard deviation at ``domain[0]`` of the part that came from the source.

    Source: Lipman et al. 2024, arXiv 2412.06264, section 4.8.2; the form by
        lengths and Wronskians is derived here.
    """

    def __init__(self, field: VelocityField, trained: Schedule, sampling: Schedule) -> None:
        super().__init__()
        self.field = field
        self.trained = trained
        self.sampling = sampling
        low, high = trained.domain
        field_low, field_high = domain_of(field)
        self.known = (max(low, field_low), min(high, field_high))
        self.domain = self._finite_domain()
        start = torch.tensor(self.domain[:1], dtype=torch.float64)
        t, scale = self.match(start)
        self.initial_scale = float(scale * trained(t).sigma)

    @property
    def path(self) -> AffinePath:
        """The path that is followed: that of the sampling schedule."""
        return AffinePath(self.sampling)

    def _finite_domain(self) -> tuple[float, float]:
        """Return the domain of the sampling schedule without ends where dt/dr is infinite.

        That is where a trained schedule is at rest (Polynomial above 1 at the source).
        """
        low, high = self.sampling.domain
        ends = torch.tensor([low, high], dtype=torch.float64)
        start, end = self._transform(ends)[2].isfinite().tolist()
        return (
            low if start else max(low, SINGULAR_GAP),
            high if end else min(high, 1 - SINGULAR_GAP),
        )

    def match(self, r: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return trained times ``t`` and scales ``c`` with ``X_r = c X_t``, each ``(b,)``."""
        t, scale, _, _ = self._transform(r)
        return t, scale

    def _transform(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ``t``, ``c``, ``dt/dr`` and ``d log c / dr``."""
        new = self.sampling(r)
        asked = self.trained.time_of(new.alpha, new.sigma)
        t = asked.clamp(*self.known)
        old = self.trained(t)
        scale = _length(new) / _length(old)
        rate = new.wronskian / (scale.square() * old.wronskian)
        rate = torch.where(self._inside(new, r), rate, 0.0)
        return t, scale, rate, _log_rate(new) - _log_rate(old) * rate

    def _inside(self, new: Coefficients, r: Tensor) -> Tensor:
        """Return where the ratio of ``new`` lies in the trained range, by cross-multiplication."""
        ends = self.trained(torch.tensor(self.known, dtype=r.dtype, device=r.device))
        # alpha_low : sigma_low <= A : S <= alpha_high : sigma_high
        above = new.alpha * ends.sigma[0] >= ends.alpha[0] * new.sigma * (1 - _ROUNDING)
        below = new.alpha * ends.sigma[1] * (1 - _ROUNDING) <= ends.alpha[1] * new.sigma
        return above & below

    def forward(
        self, x: Float[Tensor, "b *d"], t: Float[Tensor, " b"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return the velocity along the sampling schedule.

        Args:
            x: States of the sampling path, shape ``(b, *d)``.
            t: Times of the sampling path (``r`` above) in ``domain``, shape ``(b,)``.
            cond: Passed on.

        Returns:
            Shape ``(b, *d)``, per unit of sampling time.
        """
        time, scale, rate, log_rate = self._transform(t)
        v = self.field(x / expand(scale, x), time, cond)
        return expand(log_rate, x) * x + expand(scale * rate, x) * v


def _length(c: Coefficients) -> Tensor:
    return torch.hypot(c.alpha, c.sigma)


def _log_rate(c: Coefficients) -> Tensor:
    """Return ``d log N / dt``."""
    return (c.alpha * c.d_alpha + c.sigma * c.d_sigma) / (c.alpha.square() + c.sigma.square())
