"""Likelihood of a flow: the log density along its ODE changes by minus the divergence.

``d/dt log p_t(x_t) = -div v(x_t, t)``, so ``log p_1(x_1) = log p_0(x_0) - int_0^1 div v dt`` where
``x_0`` flows to ``x_1``. State and integral are carried together from 1 to 0. The divergence is the
trace of the Jacobian: exactly from one vector-Jacobian product for each entry of a sample, or
unbiased from one product with a random probe, ``E e^T J e`` (Hutchinson). The probe stays the same
along a trajectory: a new one at every time would make the integrand noise, and an adaptive method
would resolve it. With ``S = (J + J^T) / 2`` its variance is ``2 (|S|^2 - sum_i S_ii^2)`` for random
signs and ``2 |S|^2`` for Gaussians.

Sources: Chen et al. 2018, arXiv 1806.07366, equation 8; Grathwohl et al. 2019, arXiv 1810.01367,
section 3.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField, domain_of, flatten
from flowgen.integrators.adaptive import Adaptive
from flowgen.integrators.grids import Uniform
from flowgen.integrators.integrate import integrate
from flowgen.integrators.noise import Noise
from flowgen.integrators.sampler import Sampler
from flowgen.integrators.stepper import accumulating, breaks_of

Trace = Callable[[Tensor, Tensor], Tensor]
"""From ``x (b, *d)``, which requires gradients, and ``v(x)`` to ``tr dv/dx``, shape ``(b,)``."""


@runtime_checkable
class Divergence(Protocol):
    """How the divergence of a field is found along one batch of trajectories."""

    def begin(self, x: Tensor, noise: Noise | None) -> Trace:
        """Return what finds it for rows like ``x (b, *d)``, random choices made."""
        ...


class ExactDivergence:
    """The trace of the Jacobian, entry by entry: for samples of up to a few thousand entries.

    Args:
        batch: Vector-Jacobian products taken at once, >= 1; more are faster and take more memory.

    Raises:
        InputError: If ``batch < 1``.
    """

    def __init__(self, batch: int = 64) -> None:
        if batch < 1:
            raise InputError(f"batch must be >= 1, got {batch}")
        self.batch = batch

    def begin(self, x: Float[Tensor, "b *d"], noise: Noise | None = None) -> Trace:
        """Return the exact trace; no random numbers are needed."""
        del x, noise
        return self._trace

    def _trace(self, x: Tensor, v: Tensor) -> Tensor:
        size = x[0].numel()
        total = x.new_zeros(len(x))
        for first in range(0, size, self.batch):
            entries = torch.arange(first, min(first + self.batch, size), device=x.device)
            rows = torch.zeros(len(entries), 1, size, dtype=v.dtype, device=v.device)
            rows[torch.arange(len(entries)), 0, entries] = 1
            outputs = rows.expand(-1, len(x), -1).reshape(-1, *v.shape)
            products = _products(x, v, outputs, last=first + self.batch >= size)
            products = products.reshape(len(entries), len(x), size)
            total = total + products[torch.arange(len(entries)), :, entries].sum(dim=0)
        return total

    def __repr__(self) -> str:
        return "exact divergence"


class Hutchinson:
    """An unbiased estimate of the trace from one random probe for each trajectory.

    Args:
        gaussian: Gaussian probes; random signs otherwise, whose variance is never larger.
    """

    def __init__(self, gaussian: bool = False) -> None:
        self.gaussian = gaussian

    def begin(self, x: Float[Tensor, "b *d"], noise: Noise | None = None) -> Trace:
        """Return the estimate with a probe for each row.

        Raises:
            InputError: If no random numbers are given.
        """
        if noise is None:
            raise InputError("Hutchinson's divergence needs random numbers: pass noise")
        probe = noise.like(x)
        if not self.gaussian:
            probe = torch.where(probe >= 0, 1.0, -1.0).to(x)

        def trace(x: Tensor, v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(v, x, probe.to(v.dtype), materialize_grads=True)
            return flatten(product * probe).sum(dim=1)

        return trace

    def __repr__(self) -> str:
        kind = "Gaussian" if self.gaussian else "random signs"
        return f"Hutchinson's divergence, one probe ({kind}) for each sample"


def log_density_change(
    field: VelocityField,
    x_1: Float[Tensor, "b *d"],
    divergence: Divergence,
    *,
    sampler: Sampler | None = None,
    cond: Condition | None = None,
    noise: Noise | None = None,
) -> tuple[Float[Tensor, "b *d"], Float[Tensor, " b"]]:
    """Return the source points of ``x_1`` and ``log p_1(x_1) - log p_0(x_0) = -int div v dt``.

    Args:
        field: The velocity, in evaluation mode; rows must not depend on each other.
        x_1: Data in model space ``(b, *d)``.
        divergence: How it is found.
        sampler: Of an ODE in general form; None takes dopri5 with tolerances of 1e-5.
        cond: Conditions of the rows.
        noise: Random numbers of the rows, for :class:`Hutchinson`.

    Returns:
        States ``(b, *d)`` where the field begins, and the change ``(b,)``, in nats.

    Raises:
        InputError: If the sampler is stochastic or cannot integrate a plain ODE.
    """
    sampler = sampler or Sampler(Adaptive(), Uniform(), 1)
    if sampler.stochastic:
        raise InputError(f"{sampler.stepper!r} draws noise on the way: take an ODE sampler")
    if sampler.start is not None:
        raise InputError("likelihoods need the whole way: take a sampler without a start")
    x = accumulating(x_1)
    joint = _Joint(field, x.shape[1:], divergence.begin(x, noise))
    state = torch.cat([flatten(x), x.new_zeros(len(x), 1)], dim=1)
    with torch.no_grad():
        end = integrate(sampler.stepper, joint, state, sampler.grid_for(field).flip(0), cond)
    return end[:, :-1].reshape(x.shape), end[:, -1]


class _Joint:
    """The field beside its divergence, as a field on ``(b, n + 1)``."""

    def __init__(self, field: VelocityField, shape: torch.Size, trace: Trace) -> None:
        self.field = field
        self.shape = shape
        self.trace = trace
        self.domain = domain_of(field)
        self.breaks = breaks_of(field)

    def __call__(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        with torch.inference_mode(mode=False), torch.enable_grad():
            inner = x[:, :-1].reshape(-1, *self.shape).clone().requires_grad_()
            v = self.field(inner, t, cond)
            # A velocity that does not depend on the state has no graph, and no divergence.
            change = self.trace(inner, v) if v.requires_grad else inner.new_zeros(len(inner))
        return torch.cat([flatten(v.detach()).to(x), change.detach()[:, None].to(x)], dim=1)


def _products(x: Tensor, v: Tensor, outputs: Tensor, *, last: bool) -> Tensor:
    """Return ``outputs[i]^T dv/dx`` for all ``i`` at once, shape ``(k, b, *d)``."""
    (products,) = torch.autograd.grad(
        v, x, outputs, retain_graph=not last, is_grads_batched=True, materialize_grads=True
    )
    return products
