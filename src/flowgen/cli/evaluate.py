"""``flowgen evaluate``: measure a checkpoint, and say how each number was made.

Started as several processes, these share the samples, and the first one writes.
"""

import json
from collections.abc import Mapping, Sequence
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
    from flowgen.cli.together import together

    with together(cfg) as processes:
        return _evaluate(cfg, processes)


def _evaluate(cfg: DictConfig, processes: Any) -> Path:
    from flowgen.cli.nfe_sweep import asked_for, run_sweep
    from flowgen.cli.restore import home, restore
    from flowgen.cli.source_images import at_most
    from flowgen.core import InputError
    from flowgen.evaluation import Setting, figures_text, measured, protocol
    from flowgen.pipeline import atomic

    sweeping = asked_for(cfg)
    name = "evaluation_sweep.json" if sweeping else "evaluation.json"
    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.checkpoint) / name
    if out.suffix != ".json":
        raise InputError(f"out={out}: figures are written as .json")
    pipeline = restore(cfg)
    data = data_of(cfg, pipeline.about)
    seen = pipeline.codec.encoded_shape(data.shape)
    if tuple(seen) != pipeline.shape:
        raise InputError(f"the data has shape {tuple(seen)}, the model {pipeline.shape}")
    count = at_most(pipeline, cfg.num_samples)
    setting = Setting(pipeline, data, count, cfg.seed, cfg.chunk, processes.shards)
    measures = chosen(cfg, setting, sweeping)
    if sweeping:
        result = run_sweep(cfg, setting, measures, out)
    else:
        figures = measured(measures, setting)
        result = {"figures": figures, "protocol": protocol(setting)}
        if processes.first:
            say(figures_text(figures))
    if not processes.first:
        return out
    about = {"checkpoint": str(cfg.checkpoint), "weights": cfg.weights}
    about |= {"precision": cfg.precision, **result["protocol"]}
    result["protocol"] = about
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    say("\n".join(f"  {key}: {value}" for key, value in about.items()))
    say(f"written: {out}")
    return out


def chosen(cfg: DictConfig, setting: Any, sweeping: bool) -> list[Any]:
    """Return the measures that the user names, else those of the default list that fit.

    Raises:
        InputError: If a name is unknown, a measure rejects its settings or a named one does not
            fit.
    """
    from flowgen.cli.assemble import make
    from flowgen.core import InputError
    from flowgen.evaluation import fitting

    named: Sequence[str] | None = cfg.measures
    for name in named or ():
        if name not in cfg.measure:
            raise InputError(f"measures: there is no '{name}'; there are {', '.join(cfg.measure)}")
    usual = cfg.sweep_measures if sweeping else cfg.default_measures
    names = usual if named is None else named
    made = {name: make(cfg.measure[name], f"measure.{name}") for name in names}
    if named is None:
        return fitting(list(made.values()), setting)
    for name, measure in made.items():
        reason = measure.unfit(setting)
        if sweeping and not measure.needs_samples:
            reason = "it does not depend on the sampler"
        if reason:
            raise InputError(f"measures: '{name}' does not fit: {reason}")
    return list(made.values())


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
