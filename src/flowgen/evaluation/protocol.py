"""What must be known to measure the same figures again."""

from typing import Any

from flowgen.evaluation.setting import Setting
from flowgen.pipeline.conventions import CONVENTIONS


def protocol(setting: Setting) -> dict[str, Any]:
    """Return what made the figures: data, samples, weights' step, sampler, cost, versions.

    ``evaluations_per_sample`` counts evaluations of the network for one sample; under guidance an
    evaluation with and one without the label go in one call, of twice the batch, which counts once
    here and twice in ``network_rows_per_sample``.
    """
    from flowgen import __version__

    pipeline = setting.pipeline
    sampler = pipeline.sampler
    return {
        "step": pipeline.about.get("step"),
        "data": setting.data.name,
        "samples": setting.num_samples,
        "seed": setting.seed,
        "sampler": type(sampler.stepper).__name__.lower(),
        "grid": type(sampler.grid).__name__.lower(),
        "steps": sampler.num_steps,
        "starts_at": 0.0 if sampler.start is None else sampler.start.time,
        "evaluations_per_sample": pipeline.nfe(),
        "guidance": f"{pipeline.guidance} ({CONVENTIONS['guidance']})",
        "flowgen": __version__,
    }
