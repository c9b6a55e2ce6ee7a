"""Networks made flow maps: a state at time ``s`` goes to ``x + (t - s) u(x, s, t)`` in one jump.

Two kinds. One network is told the length of the jump and leads anywhere. The other has the inputs
of a velocity and leads to fixed times only: the end of the segment that ``s`` lies in, which for
one segment is the data. At its start a student is its teacher: ``u(x, s, t) = v(x, s)``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, is_shared
from flowgen.models.field import PredictionField
from flowgen.paths import Path, Prediction, Velocity


class FlowMapField(PredictionField):
    """The flow map of a network ``(x, s, {"interval": t - s, ...})``, from any time to any time.

    As a velocity field it is ``u(x, t, t)``. The network answers in its own prediction, which is
    converted at time ``s`` as a velocity would be. Arguments are those of :class:`PredictionField`;
    the network must be built with ``interval=True``.

    Attributes:
        edges: None: it leads to any time.

    Source: Geng et al. 2025, arXiv 2505.13447, eqs. 3 and 12 (mean velocity, told the interval).
    """

    edges: tuple[float, ...] | None = None

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``u(x, t, t)``, shape ``(b, *d)``, at times ``t (b,)``."""
        return self.mean_velocity(x, t, t, cond)

    def mean_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, cond: Condition | None = None
    ) -> Tensor:
        """Return the mean velocity of the flow from ``s`` to ``t``, shape ``(b, *d)``.

        Args:
            x: States, shape ``(b, *d)``, float32 or float64.
            s: Their times, shape ``(b,)``; clamped to :attr:`domain`.
            t: Where to, shape ``(b,)``; before ``s`` leads back.
            cond: Conditions as the network wants them.

        Raises:
            InputError: If shapes or types are wrong.
        """
        both = is_shared(s) and is_shared(t)
        interval = (t[:1] - s[:1]).expand(s.shape) if both else t - s
        return self.predict(x, s, {**(cond or {}), "interval": interval}, Velocity())


class SegmentField(PredictionField):
    """The flow map of a network ``(x, s, cond)`` to the end of the segment of ``s``.

    As a velocity field it is that mean velocity, so Euler's method over the edges follows the map,
    and over other nodes goes along its chords.

    Args:
        network: ``(x, s, cond) -> y`` of the shape of ``x``, e.g. a copy of a teacher's.
        path: The path of the teacher or the data.
        prediction: What the network predicts.
        edges: Rising times from 0 to 1; a time on an edge belongs to the segment it begins.
        data_std: Standard deviation of the encoded data, to scale inputs; None leaves them.
        t_eps: Distance kept from a singular end, in ``(0, 0.5)``.

    Raises:
        InputError: If the edges do not rise from 0 to 1, or as :class:`PredictionField` does.

    Source: Zhou et al. 2025, arXiv 2509.04406, eq. 5 (one segment); Wang et al. 2024, arXiv
        2405.18407, section 3 (several).
    """

    edges: tuple[float, ...] | None

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        prediction: Prediction,
        *,
        edges: Sequence[float] = (0.0, 1.0),
        data_std: float | None = None,
        t_eps: float = 1e-3,
    ) -> None:
        super().__init__(network, path, prediction, data_std=data_std, t_eps=t_eps)
        self.edges = check_edges(edges)

    def mean_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, cond: Condition | None = None
    ) -> Tensor:
        """Return the mean velocity from ``s`` to the end of its segment, shape ``(b, *d)``.

        Args:
            x: States, shape ``(b, *d)``, float32 or float64.
            s: Their times, shape ``(b,)``; clamped to :attr:`domain`.
            t: Unused: the end is the next edge, see :func:`flowgen.models.next_edge`.
            cond: Conditions as the network wants them.

        Raises:
            InputError: If shapes or types are wrong.
        """
        del t
        return self.predict(x, s, cond, Velocity())


def check_edges(edges: Sequence[float]) -> tuple[float, ...]:
    """Return the edges of segments as numbers.

    Raises:
        InputError: Unless they rise strictly from 0 to 1.
    """
    found = tuple(float(edge) for edge in edges)
    rising = all(a < b for a, b in zip(found[:-1], found[1:], strict=True))
    finite = all(math.isfinite(edge) for edge in found)
    if len(found) < 2 or not finite or not rising or found[0] != 0 or found[-1] != 1:
        raise InputError(f"edges must rise strictly from 0 to 1, got {list(edges)}")
    return found


def next_edge(edges: Sequence[float], s: Tensor) -> Tensor:
    """Return the first edge after each time ``s (b,)``, in its dtype; 1 for 1 itself."""
    return _segment(edges, s, 1)


def last_edge(edges: Sequence[float], s: Tensor) -> Tensor:
    """Return the last edge up to each time ``s (b,)``, where its segment begins, in its dtype."""
    return _segment(edges, s, 0)


def _segment(edges: Sequence[float], s: Tensor, side: int) -> Tensor:
    # Numbers, not a tensor of edges: that would be copied to an accelerator, which waits for it.
    found = torch.full_like(s, edges[side])
    for inner, edge in zip(edges[1:-1], edges[1 + side :], strict=False):
        found = torch.where(s >= inner, edge, found)
    return found
