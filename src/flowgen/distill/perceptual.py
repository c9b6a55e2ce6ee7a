"""Flow matching with a perceptual distance beside it, for pairs that are fixed by a flow.

Where each state has one datum, as after reflow or at time 0 of a flow's pairs, an image may be
compared as it looks: the mean is no longer what is learnt, so a loss need not be squared.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from flowgen.core import InputError, Loss, Pair, VelocityField
from flowgen.metrics import PerceptualNetwork
from flowgen.objectives import Distance, Squared, TimeSampler, Uniform
from flowgen.objectives.flow_matching import times_for
from flowgen.paths import Data, Path, Velocity, convert


class PerceptualMatching(nn.Module):
    """The objective ``distance(v - v_t) + weight LPIPS(x_1', x_1)``, ``x_1'`` what ``v`` leads to.

    Args:
        path: From the source to the data.
        times: Times to train at; uniform if None.
        distance: Of velocities; squared, mean over dimensions, if None.
        lpips: Files with the weights of AlexNet and of the five heads, see
            :class:`flowgen.metrics.PerceptualNetwork`; None leaves the perceptual distance out.
        weight: Its factor, > 0.
        side: Images are scaled up to so many pixels for it, at least 31; None leaves them.

    Raises:
        InputError: If a number leaves its range or the files cannot be used.

    Source: Liu et al. 2022, arXiv 2209.03003, section 5 (distillation with LPIPS); unit weight as
        in the released code.
    """

    def __init__(
        self,
        path: Path,
        times: TimeSampler | None = None,
        *,
        distance: Distance | None = None,
        lpips: Sequence[str] | None = None,
        weight: float = 1.0,
        side: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < weight < float("inf"):
            raise InputError(f"weight must be finite and > 0, got {weight}")
        if lpips is not None and len(lpips) != 2:
            raise InputError("lpips must name two files: of AlexNet, and of the heads of LPIPS 0.1")
        self.path = path
        self.times: TimeSampler = Uniform() if times is None else times
        self.distance: Distance = Squared() if distance is None else distance
        self.weight = float(weight)
        self.side = side
        # Held apart: it is no part of what is trained or stored.
        networks = [] if lpips is None else [PerceptualNetwork(lpips[0], lpips[1])]
        self._held: tuple[PerceptualNetwork, ...] = tuple(networks)

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of each pair at one random time.

        Args:
            model: Velocity field.
            pair: Of a flow; with LPIPS the data are images in ``[-1, 1]``.
            step: Unused: the objective is the same at every step.
            generator: Draws the times.

        Raises:
            InputError: If LPIPS is asked for, and the data are no images or too small.
        """
        del step
        t = times_for(self.path, model, self.times, pair, generator)
        point = self.path.sample(pair, t, generator=generator)
        velocity = model(point.x_t, t, pair.cond)
        value, terms = self.distance(velocity - point.v_t), {}
        if self._held:
            data = convert(velocity, point.x_t, point.coefficients, Velocity(), Data())
            seen = self._seen(data, pair.x_1).to(value.dtype)
            terms = {"velocity": value.detach(), "lpips": seen.detach()}
            value = value + self.weight * seen
        return Loss(value, pair, t, terms)

    def _seen(self, x: Tensor, y: Tensor) -> Float[Tensor, " b"]:
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise InputError(f"LPIPS compares images (c, h, w), got {tuple(x.shape[1:])}")
        network = self._held[0]
        a, b = (z.to(network.scale.dtype) for z in (x, y))
        if self.side is not None:
            size = (self.side, self.side)
            a, b = (interpolate(z, size, mode="bilinear", antialias=True) for z in (a, b))
        return network(a, b)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "PerceptualMatching":
        for network in self._held:
            network._apply(fn)
        return super()._apply(fn, recurse)
