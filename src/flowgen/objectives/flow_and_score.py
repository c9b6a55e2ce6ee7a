"""Velocity and score of a stochastic interpolant, learnt together.

The velocity is regressed as in flow matching; the score through the latent noise ``z`` of the path,
``E[z | x_t] = -gamma s``, by its mean squared error. In [SF]2M the score has the weight
``lambda(t) = 2 gamma / sigma^2`` on a network for ``sigma^2 s / 2``; that is this very error.
"""

import torch
from torch import nn

from flowgen.core import InputError, Loss, NoiseField, Pair, VelocityField
from flowgen.objectives.distances import Distance, Squared
from flowgen.objectives.flow_matching import times_for
from flowgen.objectives.time_samplers import TimeSampler, Uniform
from flowgen.objectives.weightings import Constant, Weighting
from flowgen.paths import Path, StochasticInterpolant


class FlowAndScore(nn.Module):
    """The objective ``w(t) distance(v - v_t) + score_weight |eta - z|^2``.

    Args:
        path: With latent noise.
        time_sampler: Times to train at; uniform if None, moved into the domain of path and model.
        weighting: Factor on the velocity's part at each time; 1 if None.
        distance: Of the velocities; squared, mean over dimensions, if None.
        score_weight: Factor on the latent noise's part, > 0.

    Attributes:
        learns_score: True: the field needs a second network, for the latent noise.
        only_calls: True: the model is only called, so that its weights may lie in shards.
        steady: True: every step computes the same, so that it can be written down as one graph.

    Raises:
        InputError: If the path has no latent noise or ``score_weight`` is not > 0.

    Source: Tong et al. 2024, arXiv 2307.03672, eq. 7; Albergo, Boffi and Vanden-Eijnden 2023, arXiv
        2303.08797, eqs. 2.13 and 2.19.
    """

    learns_score: bool = True
    only_calls: bool = True
    steady: bool = True

    def __init__(
        self,
        path: Path,
        time_sampler: TimeSampler | None = None,
        *,
        weighting: Weighting | None = None,
        distance: Distance | None = None,
        score_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(path, StochasticInterpolant):
            raise InputError(
                "flow_and_score needs a path with latent noise: path=schroedinger_bridge or "
                "path=stochastic_interpolant; without it the score follows from the velocity, or "
                "is unknown"
            )
        if not score_weight > 0:
            raise InputError(f"score_weight must be > 0, got {score_weight}")
        self.path = path
        self.time_sampler: TimeSampler = Uniform() if time_sampler is None else time_sampler
        self.weighting: Weighting = Constant() if weighting is None else weighting
        self.distance: Distance = Squared() if distance is None else distance
        self.score_weight = float(score_weight)
        self._squared = Squared()

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the loss of each pair at one random time; no host synchronisation.

        Args:
            model: A field that also tells the latent noise, called once for each.
            pair: Coupled source and data in the model's space, floating, each ``(b, *d)``.
            step: Unused: the objective is the same at every step.
            generator: Draws times and latent noise.

        Returns:
            The loss ``(b,)`` with its terms ``velocity`` and ``score``.

        Raises:
            InputError: If the model does not tell the latent noise, or shares no time with the
                path.
        """
        del step
        if not isinstance(model, NoiseField):
            raise InputError(
                f"flow_and_score trains a field with a second network for the latent noise, got "
                f"{type(model).__name__}"
            )
        t = times_for(self.path, model, self.time_sampler, pair, generator)
        point = self.path.sample(pair, t, generator=generator)
        assert point.noise is not None
        velocity = self.weighting(t, point.coefficients) * self.distance(
            model(point.x_t, t, pair.cond) - point.v_t
        )
        score = self._squared(model.latent_noise(point.x_t, t, pair.cond) - point.noise)
        terms = {"velocity": velocity, "score": score}
        return Loss(velocity + self.score_weight * score, pair, t, terms)
