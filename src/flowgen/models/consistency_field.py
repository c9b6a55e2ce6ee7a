"""The flow map to the data of a network that says where: ``X(x, s, 1) = E(x, s)``.

On the linear path a network of velocities gives the same map as ``x + (1 - s) u``. On others the
two differ: there the clean data that a network's answer stands for, ``cos x - sin F`` of TrigFlow,
is a step along the arc, not along its chord.
"""

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, expand
from flowgen.models.field import PredictionField
from flowgen.paths import AffinePath, Data, Path, Prediction

_SHORTEST = 1e-6  # of a jump that is divided by
_SMALL = 1e-6  # a determinant this small is a 0 with rounding error


class ConsistencyField(PredictionField):
    """The flow map ``f(x, s)`` to the data, the network's answer as :class:`flowgen.paths.Data`.

    At the data ``f(x, s) = x``, whatever the network answers there, unless it predicts the data
    themselves. A copy of a teacher's network starts as the teacher's denoiser. As a velocity field
    it is the mean velocity ``(f(x, s) - x) / (1 - s)``. Arguments are those of
    :class:`PredictionField`.

    Attributes:
        edges: It leads to the data alone.

    Raises:
        InputError: If the network's answer does not determine the data at an end of its times, as a
            velocity where the path is at rest, or as :class:`PredictionField` does.

    Source: Song et al. 2023, arXiv 2303.01469, section 3; Lu and Song 2024, arXiv 2410.11081,
        eq. 5.
    """

    edges: tuple[float, ...] | None = (0.0, 1.0)

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        prediction: Prediction,
        *,
        data_std: float | None = None,
        t_eps: float = 1e-3,
    ) -> None:
        super().__init__(network, path, prediction, data_std=data_std, t_eps=t_eps)
        if not isinstance(path, AffinePath):
            raise InputError(
                f"{type(path).__name__} has noise of its own, so no answer of a network says where "
                "a state leads: use a teacher of an affine path"
            )
        ends = path.schedule(torch.tensor(self.domain, dtype=torch.float64, device="cpu"))
        a, b = prediction(ends)
        determinant = (ends.alpha * b - ends.sigma * a).abs()
        if prediction != Data() and not bool((determinant > _SMALL).all()):
            raise InputError(
                f"a network that predicts {type(prediction).__name__} says nothing of the data at "
                f"an end of {type(path.schedule).__name__}: use distill=continuous_consistency"
            )

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the mean velocity to the data, shape ``(b, *d)``, at times ``t (b,)``."""
        return self.mean_velocity(x, t, t, cond)

    def mean_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, cond: Condition | None = None
    ) -> Tensor:
        """Return the mean velocity from ``s`` to the end of the domain, shape ``(b, *d)``.

        Args:
            x: States, shape ``(b, *d)``, float32 or float64.
            s: Their times, shape ``(b,)``; clamped to :attr:`domain`.
            t: Unused: the end is the data.
            cond: Conditions as the network wants them.

        Raises:
            InputError: If shapes or types are wrong.
        """
        del t
        low, high = self.domain
        length = (high - s.clamp(low, high)).clamp(min=_SHORTEST)
        end = self.predict(x, s, cond, Data())
        return (end - x) / expand(length, x).to(x.dtype)
