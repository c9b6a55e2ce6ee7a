"""Log likelihood of data under a pipeline: source density, divergence of the flow, scale of codec.

``log p(x) = log q(x_0) - int_0^1 div v dt + log |det dz/dx|`` with ``z`` what the model sees of
``x``. Stored images are whole grey levels: uniform noise of one level's width is added to them
(dequantisation), and the density of ``x + u``, in units of one level, is a lower bound of the
probability of the level on average, ``E_u log p(x + u) <= log P(x)``.

Source of the bound: Theis et al. 2016, arXiv 1511.01844, section 3.1.
"""

import math

import torch
from torch import Tensor

from flowgen.core import Condition, InputError, generator_for
from flowgen.integrators import Divergence, ExactDivergence, Sampler, log_density_change
from flowgen.integrators.noise import Noise
from flowgen.pipeline.pipeline import Pipeline

_STREAM = 0xDE9
"""Of the dequantisation, apart from other streams of a sample's number."""


def log_density(
    pipeline: Pipeline,
    x: Tensor,
    cond: Condition | None,
    numbers: range,
    *,
    divergence: Divergence | None,
    sampler: Sampler | None,
    seed: int,
) -> Tensor:
    """Return the log density of some rows, whose field is in evaluation mode already.

    Args:
        pipeline: The model.
        x: In data space ``(b, *d)``.
        cond: Their conditions, on the device of the model.
        numbers: Their global numbers, which their random numbers depend on.
        divergence: None is exact.
        sampler: Of an ODE; None takes dopri5 with tolerances of 1e-5.
        seed: Of probes and dequantisation.

    Returns:
        Nats ``(b,)``, on the CPU.

    Raises:
        InputError: If source or codec have no density.
    """
    log_prob = getattr(pipeline.source, "log_prob", None)
    log_det = getattr(pipeline.codec, "log_det", None)
    for part, method in ((pipeline.source, log_prob), (pipeline.codec, log_det)):
        if method is None:
            raise InputError(f"no likelihood: {type(part).__name__} has no density")
    assert log_prob is not None
    assert log_det is not None
    z = pipeline.codec.encode(x.to(pipeline.device))
    size = z[0].numel()
    scale = float(log_det(z.shape[1:]))
    if x.dtype == torch.uint8:
        z = z + math.exp(scale / size) * _uniform(z, seed, numbers)
    field = pipeline.velocity()
    x_0, change = log_density_change(
        field,
        z,
        divergence or ExactDivergence(),
        sampler=sampler,
        cond=cond,
        noise=Noise(seed, numbers),
    )
    # States begin at initial_scale times the source: its density is that of the source, stretched.
    start = pipeline.initial_scale
    return (log_prob(x_0 / start) - size * math.log(start) + change + scale).cpu()


def _uniform(z: Tensor, seed: int, numbers: range) -> Tensor:
    """Return uniform noise in [-1/2, 1/2) for each row, from a stream of its own."""
    shape = z.shape[1:]
    rows = [torch.rand(shape, generator=generator_for(seed, n, _STREAM)) for n in numbers]
    return torch.stack(rows).to(z) - 0.5
