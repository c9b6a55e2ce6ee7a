"""Steps of a flow map: a few large jumps, where an integrator takes many small steps.

A map to any time jumps from node to node (``Jump``); one that leads to the data alone can put fresh
noise in between (``Renoise``). Euler's method along such a map goes along its chords, which is
exact only where the flow is straight.
"""

from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, FlowMap, InputError, VelocityField, domain_of
from flowgen.integrators.noise import Noise
from flowgen.integrators.points import Point
from flowgen.integrators.stepper import Time, accumulating
from flowgen.integrators.stochastic import StochasticStepper

_SAME = 1e-6  # a node this close to an edge of the map is that edge


class Jump:
    """``x' = x + (t - s) u(x, s, t)``: one evaluation, exact for an exact map, however far.

    A map to the ends of segments jumps from edge to edge only.

    Source: Boffi, Albergo and Vanden-Eijnden 2024, arXiv 2406.07507, definition 2.3; Geng et al.
        2025, arXiv 2505.13447, eq. 12; for segments Wang et al. 2024, arXiv 2405.18407.
    """

    order = 1
    follows_map = True

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
            field: A flow map.
            x: States ``(b, *d)`` at time ``s``.
            s: Where the jump starts, in ``[0, 1]``.
            t: Where it ends; before ``s`` goes back, if the map leads to any time.
            cond: Conditions of the rows.

        Raises:
            InputError: If the field is no flow map, or does not lead from ``s`` to ``t``.
        """
        return jump(field, accumulating(x), float(s), float(t), cond, repr(self))

    def __repr__(self) -> str:
        return "Jump()"


class Renoise(StochasticStepper):
    """A jump to the data and noise put in again: ``x' = alpha' X(x, s, 1) + sigma' xi``.

    One evaluation a step; the last one adds no noise. More steps give better samples than one, and
    other ones: the noise is new. Exact in law for an exact map trained with independent noise.

    Source: Song et al. 2023, arXiv 2303.01469, algorithm 1, for any affine path.
    """

    order = 1
    follows_map = True

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
        end = self._points.path.domain[1]
        data = jump(field, x, here.t, end, cond, repr(self))
        if last:
            return data
        return there.alpha * data + there.sigma * noise.like(x)

    def __repr__(self) -> str:
        return "Renoise()"


def jump(
    field: VelocityField, x: Tensor, s: float, t: float, cond: Condition | None, name: str
) -> Tensor:
    """Return ``x + (t - s) u(x, s, t)`` for one interval of all rows.

    Args:
        field: A flow map.
        x: States ``(b, *d)``, float32 or float64.
        s: Where the jump starts.
        t: Where it ends.
        cond: Conditions of the rows.
        name: Of the stepper, for messages.

    Raises:
        InputError: If the field is no flow map, or does not lead from ``s`` to ``t``.
    """
    if not isinstance(field, FlowMap):
        raise InputError(
            f"{name} follows a flow map; {type(field).__name__} is a velocity alone (guidance of a "
            "flow map is part of its training): use an ODE sampler such as sampler=heun"
        )
    if field.edges is not None:
        led = next((edge for edge in field.edges if edge > s + _SAME), None)
        # A field that is singular at the data ends a little before it.
        if led is None or abs(min(led, domain_of(field)[1]) - t) > _SAME:
            leads = "nowhere" if led is None else f"to {led:g}"
            raise InputError(
                f"this model leads from {s:g} {leads}, not to {t:g}: choose the nodes of the grid "
                "among its edges, sampler=renoise or sampler=euler"
            )
    start, end = (x.new_full((1,), at).expand(x.shape[0]) for at in (s, t))
    return x + (t - s) * field.mean_velocity(x, start, end, cond).to(x.dtype)
