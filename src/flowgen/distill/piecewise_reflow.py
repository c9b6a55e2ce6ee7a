"""Piecewise reflow: a flow that is straight inside each of a few windows of time.

For a time ``t`` in the window ``[a, b]`` the state ``x_a`` is noised data, and the teacher takes it
to ``x_b = X(x_a, a, b)``. The student learns the velocity of the chord,

    ``v(x_t, t) -> (x_b - x_a) / (b - a),   x_t = x_a + (t - a) (x_b - x_a) / (b - a)``.

Inside a window that is reflow, so one Euler step for each window is enough. There is no need to
solve the whole equation, nor to trust the teacher's own samples: every window starts from data.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import Condition, InputError, Loss, Pair, VelocityField, domain_of, expand
from flowgen.distill.velocities import OfTeacher
from flowgen.integrators import Sampler
from flowgen.models import check_edges, last_edge, next_edge
from flowgen.objectives import Constant, Distance, Squared, TimeSampler, Uniform, Weighting
from flowgen.objectives.flow_matching import common_domain, times_for
from flowgen.paths import Path

_SAME = 1e-6
"""Times closer than this are one time."""


class Windowed:
    """A field in the time of each row's own window: ``(b - a) v(x, a + (b - a) tau)``.

    Rows with windows of their own so have one time ``tau`` from 0 to 1, which any solver can take
    steps in.

    Args:
        field: The velocity ``v``.
        begin: Where each window begins, shape ``(b,)``.
        end: Where it ends, shape ``(b,)``.
    """

    def __init__(
        self, field: VelocityField, begin: Float[Tensor, " b"], end: Float[Tensor, " b"]
    ) -> None:
        self.field = field
        self.begin = begin
        self.length = end - begin

    def __call__(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(b, *d)`` per unit of ``tau``, at ``tau = t (b,)``."""
        times = torch.addcmul(self.begin.to(t), self.length.to(t), t)
        return expand(self.length, x).to(x.dtype) * self.field(x, times, cond)


class PiecewiseReflow(nn.Module):
    """The objective ``w(t) distance(v(x_t, t) - (x_b - x_a) / (b - a))``.

    Args:
        path: Of the teacher, by which data are noised.
        teacher: Whose flow is made straight, guided or not.
        sampler: Solves the teacher's equation inside a window, with as many steps for each window;
            draws no noise and works with velocities alone.
        edges: Rising times from 0 to 1 between which the flow is made straight; a time on an edge
            belongs to the window that it begins.
        times: Where the student is trained; uniform if None.
        weighting: Factor at each time; 1 if None.
        distance: Squared, mean over dimensions, if None.

    Attributes:
        score_valid: False: in a window the noise follows from the data.

    Raises:
        InputError: If there is no teacher, the edges do not rise from 0 to 1, or the sampler is
            stochastic.

    Source: Yan et al. 2024, arXiv 2405.07510, section 3 (PeRFlow), for any affine path.
    """

    score_valid: bool = False

    def __init__(
        self,
        path: Path,
        teacher: VelocityField | None,
        *,
        sampler: Sampler,
        edges: Sequence[float],
        times: TimeSampler | None = None,
        weighting: Weighting | None = None,
        distance: Distance | None = None,
    ) -> None:
        super().__init__()
        if sampler.stochastic:
            raise InputError(
                f"windows are solved by an ODE, and {sampler.stepper!r} draws noise: use e.g. heun"
            )
        self.path = path
        self.velocity = OfTeacher(teacher)
        self.sampler = sampler
        self.edges = check_edges(edges)
        self.times: TimeSampler = Uniform() if times is None else times
        self.weighting: Weighting = Constant() if weighting is None else weighting
        self.distance: Distance = Squared() if distance is None else distance

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of each pair at one random time of one window.

        Args:
            model: Velocity field that is trained; a map to fixed times must lead to the edges.
            pair: Coupled source and data in the model's space.
            step: Unused: the objective is the same at every step.
            generator: Draws the times, and the noise of a path that has its own.

        Raises:
            InputError: If the model leads to other edges, or a window is outside of the times that
                path, teacher and model know.
        """
        del step
        own = getattr(model, "edges", None)
        if own is not None and own != self.edges:
            raise InputError(
                f"the student leads to the edges {own}, and is trained on {self.edges}"
            )
        low, high = self._known(model)
        t = times_for(self.path, model, self.times, pair, generator).clamp(low, high)
        begin, end = (edge(self.edges, t).clamp(low, high) for edge in (last_edge, next_edge))
        with torch.no_grad():
            point = self.path.sample(pair, begin, generator=generator)
            x, chord = point.x_t, self.chord(point.x_t, begin, end, pair.cond)
            x_t = x + expand(t - begin, x) * chord
        value = self.distance(model(x_t, t, pair.cond) - chord)
        return Loss(self.weighting(t, self.path.coefficients(t)) * value, pair, t)

    def check_sampler(self, sampler: Sampler) -> None:
        """Look at the sampler of the student.

        Raises:
            InputError: If one of its steps would cross from a window into the next, where the
                velocity jumps.
        """
        nodes = sampler.grid(sampler.num_steps)
        crossed = [at for at in self.edges if float((nodes - at).abs().min()) > _SAME]
        if crossed:
            raise InputError(
                f"sampler.num_steps={sampler.num_steps}: a step would cross the edge at "
                f"{crossed[0]:g} of the windows {list(self.edges)}, where the velocity jumps; "
                f"steps must end at the edges, as {len(self.edges) - 1} equal ones do where the "
                "windows are equal"
            )

    @torch.no_grad()
    def chord(
        self,
        x: Float[Tensor, "b *d"],
        begin: Float[Tensor, " b"],
        end: Float[Tensor, " b"],
        cond: Condition | None = None,
    ) -> Float[Tensor, "b *d"]:
        """Return the mean velocity of the teacher in each row's window, shape ``(b, *d)``.

        Args:
            x: States ``(b, *d)`` where the windows begin.
            begin: Their times, shape ``(b,)``.
            end: Where the windows end, shape ``(b,)``.
            cond: Conditions of the rows.
        """
        reached = self.sampler.sample(Windowed(self.velocity.teacher, begin, end), x, cond)
        return ((reached - x) / expand(end - begin, x)).to(x.dtype)

    def _known(self, model: VelocityField) -> tuple[float, float]:
        """Return the times that path, teacher and model know."""
        (low, high), teacher = common_domain(self.path, model), domain_of(self.velocity.teacher)
        low, high = max(low, teacher[0]), min(high, teacher[1])
        if not (low < self.edges[1] and self.edges[-2] < high):
            raise InputError(
                f"times are known from {low:g} to {high:g}, and no window of "
                f"{list(self.edges)} may lie outside of that"
            )
        return low, high
