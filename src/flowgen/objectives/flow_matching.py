"""Flow matching: regress the velocity of the pairs, learn the velocity of the marginals.

Among all fields, ``v(x, t) = E[v_t | x_t = x]`` has the least mean squared distance to the pair
velocity ``v_t = d_alpha x_1 + d_sigma x_0``, and following it carries the source to the data. At a
given state every prediction ``y = a x_1 + b x_0`` is an affine function of the velocity, so the
comparison can be made in any of these spaces: the optimum is the same, the weight of times is not.
"""

import torch
from torch import Tensor, nn

from flowgen.core import InputError, Loss, Pair, VelocityField, domain_of, expand
from flowgen.objectives.distances import Distance, Squared
from flowgen.objectives.time_samplers import TimeSampler, Uniform
from flowgen.objectives.weightings import Constant, Weighting
from flowgen.paths import AffinePath, Path, Prediction, Velocity, convert


class FlowMatching(nn.Module):
    """The objective ``w(t) distance(prediction of the model - prediction of the pair)``.

    Args:
        path: From the source to the data.
        time_sampler: Times to train at; uniform if None. Times outside the domain of the path or of
            the model are moved to its nearer end.
        prediction: The space of the comparison, for any model; velocity if None.
        weighting: Factor at each time; 1 if None.
        distance: Of prediction and target; squared, mean over dimensions, if None.

    Attributes:
        only_calls: True: the model is only called, so that its weights may lie in shards.
        steady: True: every step computes the same, so that it can be written down as one graph.

    Raises:
        InputError: If the path has latent noise and the prediction is not the velocity.

    Source: Lipman et al. 2023, arXiv 2210.02747, eq. 9; Liu et al. 2023, arXiv 2209.03003, eq. 1;
        Albergo and Vanden-Eijnden 2023, arXiv 2209.15571, eq. 9.
    """

    only_calls: bool = True
    steady: bool = True

    def __init__(
        self,
        path: Path,
        time_sampler: TimeSampler | None = None,
        *,
        prediction: Prediction | None = None,
        weighting: Weighting | None = None,
        distance: Distance | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self.time_sampler: TimeSampler = Uniform() if time_sampler is None else time_sampler
        self.prediction: Prediction = Velocity() if prediction is None else prediction
        self.weighting: Weighting = Constant() if weighting is None else weighting
        self.distance: Distance = Squared() if distance is None else distance
        if self.prediction != Velocity() and not isinstance(path, AffinePath):
            raise InputError(
                f"{type(path).__name__} has latent noise, so only velocities can be compared: use "
                "prediction@loss_space=velocity"
            )

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
            model: Velocity field, called once with ``x_t (b, *d)``, ``t (b,)`` and ``pair.cond``.
            pair: Coupled source and data in the model's space, floating, each ``(b, *d)``.
            step: Unused: the objective is the same at every step.
            generator: Draws the times.

        Returns:
            The loss ``(b,)``, at least float32, without the weights of the pairs: those act in
            :meth:`Loss.total`.

        Raises:
            InputError: If path and model share no time.
        """
        del step
        t = times_for(self.path, model, self.time_sampler, pair, generator)
        point = self.path.sample(pair, t, generator=generator)
        coefficients = point.coefficients
        velocity = model(point.x_t, t, pair.cond)
        if self.prediction == Velocity():
            difference = velocity - point.v_t
        else:
            a, b = self.prediction(coefficients)
            target = expand(a, pair.x_1) * pair.x_1 + expand(b, pair.x_0) * pair.x_0
            answer = convert(velocity, point.x_t, coefficients, Velocity(), self.prediction)
            difference = answer - target
        value = self.weighting(t, coefficients) * self.distance(difference)
        return Loss(value, pair, t)


def times_for(
    path: Path,
    model: VelocityField,
    time_sampler: TimeSampler,
    pair: Pair,
    generator: torch.Generator | None,
) -> Tensor:
    """Return times ``(b,)`` that path and model know, float64 for float64 pairs.

    Raises:
        InputError: If path and model share no time.
    """
    low, high = common_domain(path, model)
    t = time_sampler(len(pair), generator=generator, device=pair.x_1.device)
    return t.to(torch.promote_types(t.dtype, pair.x_1.dtype)).clamp(low, high)


def common_domain(path: Path, model: VelocityField) -> tuple[float, float]:
    """Return the closed range of times that both path and model know.

    Raises:
        InputError: If there is none.
    """
    (low, high), (model_low, model_high) = path.domain, domain_of(model)
    low, high = max(low, model_low), min(high, model_high)
    if not low < high:
        raise InputError(
            f"path and model share no time: the path knows {path.domain}, the model "
            f"{(model_low, model_high)}"
        )
    return low, high
