"""``flowgen evaluate``: measure a checkpoint, and say how each number was made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from flowgen.cli.console import say


def run(cfg: DictConfig) -> Path:
    """Evaluate as ``cfg`` says and return the JSON file with figures and protocol.

    Args:
        cfg: The composed config of ``configs/evaluate.yaml``.

    Raises:
        InputError: If the checkpoint, the data or a setting cannot be used.
    """
    from tqdm import tqdm

    from flowgen.cli.measures import Evaluation, measures_for
    from flowgen.cli.restore import home, restore
    from flowgen.core import InputError
    from flowgen.pipeline import atomic

    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.checkpoint) / "evaluation.json"
    if out.suffix != ".json":
        raise InputError(f"out={out}: figures are written as .json")
    pipeline = restore(cfg)
    data = data_of(cfg, pipeline.about)
    if tuple(data.shape) != pipeline.shape:
        raise InputError(f"the data has shape {tuple(data.shape)}, the model {pipeline.shape}")
    evaluation = Evaluation(
        pipeline,
        data,
        num_samples=cfg.num_samples,
        seed=cfg.seed,
        chunk=cfg.chunk,
        extractor=cfg.extractor,
        path_steps=cfg.path_steps,
        path_samples=cfg.path_samples,
    )
    figures: dict[str, Any] = {}
    for name, measure in tqdm(measures_for(evaluation).items(), desc="evaluating", leave=False):
        figures[name] = measure(evaluation)
    result = {"figures": figures, "protocol": protocol(cfg, evaluation)}
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    say(table(figures))
    say("\n".join(f"  {key}: {value}" for key, value in result["protocol"].items()))
    say(f"written: {out}")
    return out


def data_of(cfg: DictConfig, about: Mapping[str, Any]) -> Any:
    """Return the data set to compare with: the one given, else the one trained on.

    Raises:
        InputError: If neither is known.
    """
    from flowgen.cli.assemble import data_set
    from flowgen.cli.train import LOADER_KEYS
    from flowgen.core import InputError
    from flowgen.pipeline.stored import stored_data

    if cfg.get("data") is not None:
        return data_set(cfg.data)
    if not about.get("data"):
        raise InputError("the checkpoint does not say what it was trained on; give data=<name>")
    if cfg.trust_code:
        return data_set(DictConfig(about["data"]), LOADER_KEYS)
    return stored_data(about["data"], LOADER_KEYS)


def protocol(cfg: DictConfig, evaluation: Any) -> dict[str, Any]:
    """Return what must be known to measure the same figures again."""
    from flowgen import __version__
    from flowgen.pipeline.pipeline import CONVENTIONS

    sampler = evaluation.pipeline.sampler
    return {
        "checkpoint": str(cfg.checkpoint),
        "step": evaluation.pipeline.about.get("step"),
        "weights": cfg.weights,
        "data": evaluation.data.name,
        "samples": cfg.num_samples,
        "seed": cfg.seed,
        "sampler": type(sampler.stepper).__name__.lower(),
        "grid": type(sampler.grid).__name__.lower(),
        "steps": sampler.num_steps,
        "evaluations_per_sample": evaluation.pipeline.nfe(),
        "guidance": f"{evaluation.pipeline.guidance} ({CONVENTIONS['guidance']})",
        "flowgen": __version__,
    }


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as aligned lines: measure, name, value; reals as four digits."""
    lines = []
    for group, values in figures.items():
        lines.append(group)
        for name, value in values.items():
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            lines.append(f"  {name:<28} {shown}")
    return "\n".join(lines)
