"""A network made a velocity field, whatever it was trained to predict.

The network sees ``c_in(t) x`` and answers in its own prediction ``y = a x_1 + b x_0``; the velocity
follows by the one conversion formula of ``flowgen.paths``. With the standard deviation ``s`` of the
data, ``c_in = (alpha^2 s^2 + sigma^2)^(-1/2)`` gives the network inputs of unit variance at every
time (Karras 2022, arXiv 2206.00364, table 1, for any affine path). Conversions that divide by a
coefficient are singular at one end, so times are clamped to the range where the velocity is finite.
"""

import math

import torch
from torch import Tensor, nn

from flowgen.core import Coefficients, Condition, InputError, expand, is_shared
from flowgen.models.checks import check_inputs
from flowgen.paths import Path, Prediction, Velocity, convert, velocity_domain


class PredictionField(nn.Module):
    """The velocity field of a network trained in any prediction.

    Args:
        network: ``(x, t, cond) -> y`` of the shape of ``x``.
        path: The path the network is trained on.
        prediction: What the network predicts.
        data_std: Standard deviation of the encoded data, above 0, to scale the inputs by ``c_in``;
            None passes the states unscaled.
        t_eps: Distance kept from a singular end, in ``(0, 0.5)``.

    Attributes:
        domain: The closed range of times where the velocity is finite.
        initial_scale: ``sigma`` where the domain begins: states start at this times ``x_0``.
        in_bfloat16: Whether the network computes in bfloat16 by itself, as it does under
            autocast; states, times and weights stay what they are. Off in training, where the
            loop decides.

    Raises:
        InputError: If a number leaves its range, or the path has latent noise and the prediction is
            not the velocity.
    """

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        prediction: Prediction,
        *,
        data_std: float | None = None,
        t_eps: float = 1e-3,
    ) -> None:
        super().__init__()
        if data_std is not None and not (math.isfinite(data_std) and data_std > 0):
            raise InputError(f"data_std must be finite and above 0, got {data_std}")
        self.network = network
        self.path = path
        self.prediction = prediction
        self.data_std = data_std
        self.in_bfloat16 = False
        # Found once, since finding them reads values.
        self.domain = velocity_domain(prediction, path, t_eps)
        self.initial_scale = float(path.coefficients(torch.tensor([self.domain[0]])).sigma)

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity, shape ``(b, *d)`` and type of ``x``.

        Args:
            x: States, shape ``(b, *d)``, float32 or float64.
            t: Times, shape ``(b,)``; clamped to :attr:`domain`.
            cond: Conditions as the network wants them.

        Raises:
            InputError: If shapes or types are wrong.
        """
        return self.predict(x, t, cond, Velocity())

    def predict(
        self, x: Tensor, t: Tensor, cond: Condition | None, prediction: Prediction
    ) -> Tensor:
        """Return the network's answer as ``prediction``, e.g. ``Data()``, shape ``(b, *d)``.

        Args:
            x: States, shape ``(b, *d)``, float32 or float64.
            t: Times, shape ``(b,)``; clamped to :attr:`domain`.
            cond: Conditions as the network wants them.
            prediction: What to return; the network's own one is returned unconverted.

        Raises:
            InputError: If shapes or types are wrong.
        """
        check_inputs(x, t)
        if x.dtype not in (torch.float32, torch.float64):
            raise InputError(f"x must be float32 or float64, got {x.dtype}")
        low, high = self.domain
        t = t[:1].clamp(low, high).expand(t.shape) if is_shared(t) else t.clamp(low, high)
        if prediction == self.prediction and self.data_std is None:
            return self._answer(self.network, x, t, cond).to(x.dtype)
        coefficients = self.path.coefficients(t)
        y = self._answer(self.network, self._scaled(x, coefficients), t, cond).to(x.dtype)
        return convert(y, x, coefficients, self.prediction, prediction).to(x.dtype)

    def _answer(self, network: nn.Module, x: Tensor, t: Tensor, cond: Condition | None) -> Tensor:
        if not self.in_bfloat16:
            return network(x, t, cond)
        with torch.autocast(x.device.type, torch.bfloat16):
            return network(x, t, cond)

    def _scaled(self, x: Tensor, coefficients: Coefficients) -> Tensor:
        if self.data_std is None:
            return x
        variance = (coefficients.alpha * self.data_std) ** 2 + coefficients.sigma**2
        return x * expand(variance.rsqrt(), x).to(x.dtype)
