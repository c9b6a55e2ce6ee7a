"""How straight and how long the trajectories of a field are.

Along ``x_t`` from ``x_0`` to ``x_1`` with velocity ``v``: path energy ``PE = E int |v|^2 dt``, arc
length ``E int |v| dt``, transport cost ``TC = E |x_1 - x_0|^2`` of the generated pairs, and
straightness ``S = E int |v - (x_1 - x_0)|^2 dt = PE - TC``: 0 only for straight lines at constant
speed. ``W2^2 <= TC <= PE``. Squares are summed over the axes of a sample.

A model that shrinks the data has a small energy too: beside the normalised path energy always
report ``PE / W2^2(source, generated)`` and the fit of the samples.

Sources: Liu et al. 2022, arXiv 2209.03003, section 2 (straightness); Tong et al. 2023, arXiv
2302.00482, section 5 (normalised path energy); Pooladian et al. 2023, arXiv 2304.14772.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField, flatten


@dataclass(frozen=True)
class PathStatistics:
    """Means over trajectories, in squared units of the data unless said otherwise.

    Args:
        path_energy: ``E int |v|^2 dt``.
        arc_length: ``E int |v| dt``, in units of the data.
        transport_cost: ``E |x_1 - x_0|^2``.
        straightness: ``E int |v - (x_1 - x_0)|^2 dt``; smaller is straighter.
        num_samples: How many trajectories.
    """

    path_energy: float
    arc_length: float
    transport_cost: float
    straightness: float
    num_samples: int

    def npe(self, w2_squared: float) -> float:
        """Return the normalised path energy ``|PE - W2^2| / W2^2``.

        Args:
            w2_squared: Squared distance of source and data, > 0.

        Raises:
            InputError: If ``w2_squared`` is not positive.
        """
        return abs(self.energy_ratio(w2_squared) - 1)

    def energy_ratio(self, w2_squared: float) -> float:
        """Return ``PE / W2^2``; at least 1 if the distance is that of source and samples.

        Args:
            w2_squared: A squared distance, > 0.

        Raises:
            InputError: If ``w2_squared`` is not positive.
        """
        if not w2_squared > 0:
            raise InputError(f"w2_squared must be > 0, got {w2_squared}")
        return self.path_energy / w2_squared

    @classmethod
    def merged(cls, parts: Sequence["PathStatistics"]) -> "PathStatistics":
        """Return the statistics of all trajectories of ``parts``, disjoint batches, together.

        Raises:
            InputError: If there are no parts.
        """
        total = sum(part.num_samples for part in parts)
        if total == 0:
            raise InputError("parts must hold at least one batch of trajectories")
        names = ("path_energy", "arc_length", "transport_cost", "straightness")
        means = [
            sum(getattr(part, name) * part.num_samples for part in parts) / total for name in names
        ]
        return cls(*means, num_samples=total)


def path_statistics(
    field: VelocityField,
    states: Float[Tensor, "n b *d"],
    t: Float[Tensor, " n"],
    cond: Condition | None = None,
) -> PathStatistics:
    """Return energy, length, cost and straightness of trajectories of ``field``.

    Time integrals use the trapezoidal rule on the nodes, with an error of the square of the step:
    take 100 steps or more, of a method of order 2 or more. If the nodes span ``T`` instead of 1 (a
    field with a smaller domain), displacement is compared as the velocity ``(x_1 - x_0) / T``.

    Args:
        field: The velocity that made the trajectories.
        states: Their states ``(n, b, *d)`` at all nodes, ``b >= 1``.
        t: The nodes ``(n,)`` in ``[0, 1]``, strictly increasing, ``n >= 2``.
        cond: Conditions of the ``b`` rows.

    Raises:
        InputError: If shapes do not agree or nodes do not increase.
    """
    if states.ndim < 3 or states.shape[1] < 1 or len(t) != len(states) or len(t) < 2:
        raise InputError(
            f"states must be (n, b, *d) with n >= 2 nodes, got {tuple(states.shape)} for {len(t)}"
        )
    nodes = t.detach().cpu().double()
    steps = nodes.diff()
    if not bool((steps > 0).all()):
        raise InputError("t must increase strictly")
    weights: list[float] = (torch.cat([steps, steps[:1] * 0]) / 2).tolist()
    weights = [now + before for now, before in zip(weights, [0.0, *weights[:-1]], strict=True)]
    displacement = flatten((states[-1] - states[0]).double())
    direct = displacement / float(nodes[-1] - nodes[0])
    totals = displacement.new_zeros(3)
    with torch.no_grad():
        for weight, node, x in zip(weights, nodes.tolist(), states, strict=True):
            v = flatten(field(x, x.new_full((1,), node).expand(len(x)), cond).double())
            square = v.square().sum(dim=1)
            bend = (v - direct).square().sum(dim=1)
            totals += weight * torch.stack([square.mean(), square.sqrt().mean(), bend.mean()])
    energy, length, straightness = totals.tolist()
    cost = float(displacement.square().sum(dim=1).mean())
    return PathStatistics(energy, length, cost, straightness, states.shape[1])
