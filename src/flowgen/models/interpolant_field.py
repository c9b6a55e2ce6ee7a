"""The field of a stochastic interpolant: its velocity, and beside it the latent noise."""

from torch import Tensor, nn

from flowgen.core import Condition, InputError, expand, is_shared
from flowgen.models.field import PredictionField
from flowgen.paths import Prediction, StochasticInterpolant


class InterpolantField(PredictionField):
    """A velocity field whose score is learnt by a second network, of any kind.

    The second network learns ``E[z | x_t]``, which stays bounded; the score is that over
    ``-gamma(t)``.

    Args:
        network: ``(x, t, cond) -> velocity``.
        path: With latent noise.
        prediction: Of ``network``: the velocity, as no other follows from a state with noise.
        noise_network: ``(x, t, cond) -> E[z | x_t]``, of the shape of ``x``.
        data_std: Standard deviation of the encoded data, to scale inputs; None leaves them.
        t_eps: Unused: the path keeps its own margin.

    Raises:
        InputError: If the path has no latent noise, or a prediction is not the velocity.

    Source: Albergo, Boffi and Vanden-Eijnden 2023, arXiv 2303.08797, section 2.4 (denoiser).
    """

    def __init__(
        self,
        network: nn.Module,
        path: StochasticInterpolant,
        prediction: Prediction,
        noise_network: nn.Module,
        *,
        data_std: float | None = None,
        t_eps: float = 1e-3,
    ) -> None:
        if not isinstance(path, StochasticInterpolant):
            raise InputError(
                "a score is learnt beside the velocity for a path with latent noise: use "
                "path=schroedinger_bridge or path=stochastic_interpolant, or "
                "objective=flow_matching"
            )
        super().__init__(network, path, prediction, data_std=data_std, t_eps=t_eps)
        self.noise_network = noise_network

    def latent_noise(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return ``E[z | x_t = x]``, shape ``(b, *d)``; times are clamped to the domain.

        Args:
            x: States, shape ``(b, *d)``.
            t: Times, shape ``(b,)``.
            cond: Conditions as the network wants them.
        """
        t = self._clamped(t)
        scaled = self._scaled(x, self.path.coefficients(t))
        return self._answer(self.noise_network, scaled, t, cond).to(x.dtype)

    def score(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the score of the marginals at times ``t``, shape ``(b, *d)``.

        Args:
            x: States, shape ``(b, *d)``.
            t: Times, shape ``(b,)``.
            cond: Conditions as the network wants them.
        """
        assert isinstance(self.path, StochasticInterpolant)
        gamma, _ = self.path.noise(self._clamped(t))
        return -self.latent_noise(x, t, cond) / expand(gamma, x).to(x.dtype)

    def _clamped(self, t: Tensor) -> Tensor:
        low, high = self.domain
        return t[:1].clamp(low, high).expand(t.shape) if is_shared(t) else t.clamp(low, high)
