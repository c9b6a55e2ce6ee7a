"""How samples of what was written are drawn, to be compared with a pipeline's own."""

from collections.abc import Callable

from torch import Tensor

from flowgen.pipeline.pipeline import Pipeline

Sampling = Callable[[tuple[Tensor, ...]], Tensor]
"""From source samples and conditions to samples, by what was written."""


def sampling_of(pipeline: Pipeline) -> Sampling:
    """Return the sampling of a pipeline, with its own sampler and guidance.

    It takes source samples times ``initial_scale`` and the conditions in the order of their names.
    """
    names = sorted(pipeline.conditions(range(1)) or {})

    def sample(given: tuple[Tensor, ...]) -> Tensor:
        cond = dict(zip(names, given[1:], strict=True)) or None
        x_1 = pipeline.sampler.sample(pipeline.velocity(), given[0], cond)
        return pipeline.codec.decode(x_1)

    return sample
