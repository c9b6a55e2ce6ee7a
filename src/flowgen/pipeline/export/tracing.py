"""A pipeline's whole sampling as one graph: source samples and conditions in, samples out."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from flowgen.core import InputError
from flowgen.integrators import Adaptive, integrate
from flowgen.pipeline.pipeline import Pipeline

MAX_BATCH = 63
"""Most samples of one call: autoencoders of diffusers take another way from 64 images on."""

_EXAMPLE = 4  # rows that are traced; a batch of one would be taken for a constant


class Generator(nn.Module):
    """Samples by a fixed number of evaluations, with nothing left to choose.

    Args:
        pipeline: With a sampler of fixed steps that draws no noise on the way.

    Attributes:
        names: Of the conditions, in the order of :meth:`forward`.

    Raises:
        InputError: If the sampler is adaptive, stochastic, or starts from a file.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        sampler = pipeline.sampler
        if isinstance(sampler.stepper, Adaptive) or sampler.stochastic or sampler.start is not None:
            raise InputError(
                "a graph has fixed steps and no random numbers: export with a sampler such as "
                "sampler=heun"
            )
        field = pipeline.velocity()
        self.field = pipeline.field
        self.codec = pipeline.codec if isinstance(pipeline.codec, nn.Module) else None
        self.names = tuple(sorted(pipeline.conditions(range(1)) or {}))
        # Not submodules: the weights are known by the field and the codec already.
        self._parts = (field, sampler.stepper, pipeline.codec.decode)
        # Numbers: a tensor would become a part of the graph.
        self._nodes: list[float] = sampler.grid_for(field).tolist()

    def forward(self, x_0: Tensor, *cond: Tensor) -> Tensor:
        """Return samples in data space.

        Args:
            x_0: Source samples ``(b, *d)``, times ``initial_scale`` of the field.
            cond: Conditions in the order of ``names``, ``(b, ...)`` each.
        """
        field, stepper, decode = self._parts
        given = dict(zip(self.names, cond, strict=True)) or None
        return decode(integrate(stepper, field, x_0, self._nodes, given))


def inputs(pipeline: Pipeline, numbers: range, seed: int = 0) -> tuple[Tensor, ...]:
    """Return the inputs of :class:`Generator` for the samples of the given numbers."""
    x_0 = pipeline.noise(seed, numbers) * pipeline.initial_scale
    cond = pipeline.conditions(numbers) or {}
    return (x_0, *(cond[name] for name in sorted(cond)))


def traced(pipeline: Pipeline) -> tuple[ExportedProgram, Generator]:
    """Return the graph of a pipeline for 1 to :data:`MAX_BATCH` samples, and what it was made of.

    Raises:
        InputError: If the sampler or the network cannot be traced.
    """
    generator = Generator(pipeline).eval()
    example = inputs(pipeline, range(_EXAMPLE))
    batch = Dim("batch", min=1, max=MAX_BATCH)
    others = tuple({0: batch} for _ in generator.names)
    shapes = ({0: batch}, others) if others else ({0: batch},)
    try:
        with torch.no_grad():
            program = torch.export.export(generator, example, dynamic_shapes=shapes)
    except RuntimeError as error:
        raise InputError(
            f"this model cannot be traced: {next(iter(str(error).splitlines()), '')}"
        ) from error
    return program, generator


def described(pipeline: Pipeline, generator: Generator) -> dict[str, Any]:
    """Return what a user of the graph must know, as plain data."""
    from flowgen import __version__

    example = inputs(pipeline, range(1))
    names = ("x_0", *generator.names)
    conditioner = pipeline.conditioner
    labels = getattr(conditioner, "names", None)
    return {
        "flowgen": __version__,
        "name": str(pipeline.about.get("name", "")),
        "inputs": [
            {
                "name": name,
                "shape": ["batch", *value.shape[1:]],
                "dtype": str(value.dtype).removeprefix("torch."),
            }
            for name, value in zip(names, example, strict=True)
        ],
        "source": type(pipeline.source).__name__,
        "initial_scale": float(pipeline.initial_scale),
        "evaluations": pipeline.nfe(),
        "sampler": repr(pipeline.sampler.stepper),
        "guidance": repr(pipeline.guidance),
        "num_classes": getattr(conditioner, "num_classes", None),
        "label_names": None if labels is None else list(labels),
        "max_batch": MAX_BATCH,
    }


def as_text(description: Mapping[str, Any]) -> str:
    """Return a description as it is stored beside a graph."""
    return json.dumps(description, indent=2)
