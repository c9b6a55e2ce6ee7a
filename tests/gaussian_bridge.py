"""One-dimensional Gaussian ends with any correlation: the field of an interpolant in closed form.

State and velocity are linear in (x_0, x_1, z), so all conditional means are linear regressions.
"""

from dataclasses import dataclass

import torch

from flowgen.core import expand


@dataclass(frozen=True)
class GaussianBridge:
    """A :class:`NoiseField` and :class:`ScoreField` of jointly normal ends."""

    path: object
    means: tuple[float, float] = (0.4, -1.2)
    stds: tuple[float, float] = (0.8, 0.5)
    correlation: float = 0.6

    @property
    def domain(self):
        return self.path.domain

    def pairs(self, n, generator):
        """Return ends ``(n, 1)``."""
        a, b = torch.randn(2, n, 1, generator=generator, dtype=torch.float64)
        b = self.correlation * a + (1 - self.correlation**2) ** 0.5 * b
        return self.means[0] + self.stds[0] * a, self.means[1] + self.stds[1] * b

    def moments(self, t):
        """Return mean and variance of the state, mean of its velocity, and their covariance."""
        c = self.path.coefficients(t)
        gamma, d_gamma = self.path.noise(t)
        (m_0, m_1), (s_0, s_1) = self.means, self.stds
        cross = self.correlation * s_0 * s_1
        mean = c.alpha * m_1 + c.sigma * m_0
        variance = (c.alpha * s_1) ** 2 + (c.sigma * s_0) ** 2 + 2 * c.alpha * c.sigma * cross
        velocity = c.d_alpha * m_1 + c.d_sigma * m_0
        covariance = c.alpha * c.d_alpha * s_1**2 + c.sigma * c.d_sigma * s_0**2
        covariance = covariance + (c.alpha * c.d_sigma + c.sigma * c.d_alpha) * cross
        return mean, variance + gamma**2, velocity, covariance + gamma * d_gamma

    def __call__(self, x, t, cond=None):
        t = t.clamp(*self.domain)
        mean, variance, velocity, covariance = (expand(v, x) for v in self.moments(t))
        return velocity + covariance / variance * (x - mean)

    def latent_noise(self, x, t, cond=None):
        t = t.clamp(*self.domain)
        mean, variance, _, _ = (expand(v, x) for v in self.moments(t))
        return expand(self.path.noise(t)[0], x) / variance * (x - mean)

    def score(self, x, t, cond=None):
        t = t.clamp(*self.domain)
        mean, variance, _, _ = (expand(v, x) for v in self.moments(t))
        return -(x - mean) / variance
