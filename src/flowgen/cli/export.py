"""``flowgen export``: a model in a form that runs without flowgen, compared with its samples."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say


def run(cfg: DictConfig) -> Path:
    """Export as ``cfg`` says and return what was written.

    Args:
        cfg: The composed config of ``configs/export.yaml``.

    Raises:
        InputError: If the checkpoint or a setting cannot be used, the model cannot be exported, or
            its samples are not those of the checkpoint.
    """
    from flowgen.cli.restore import home, restore
    from flowgen.pipeline.export import FORMS, export

    pipeline = restore(cfg)
    pipeline.config = _config(cfg)
    ending = FORMS[cfg.to][0] if cfg.to in FORMS else ""
    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.checkpoint) / f"exported{ending}"
    difference = export(
        pipeline, str(cfg.to), out, tolerance=cfg.tolerance, num_samples=cfg.num_samples
    )
    say(
        f"largest difference from flowgen's own samples: {difference:.3g} (at most "
        f"{cfg.tolerance:g} is allowed)\nwritten: {out}"
    )
    return out


def _config(cfg: DictConfig) -> dict[str, Any]:
    """Return what describes the model with the sampler that is asked for."""
    from flowgen.pipeline import load

    config = load(
        cfg.checkpoint, weights=cfg.weights, device="cpu", trust_code=cfg.trust_code
    ).config
    sampler = OmegaConf.to_container(cfg.sampler, resolve=True)
    assert isinstance(sampler, dict)
    if "_target_" in sampler:
        return {**config, "sampler": sampler}
    steps = {} if sampler["num_steps"] is None else {"num_steps": sampler["num_steps"]}
    return {**config, "sampler": {**config["sampler"], **steps}}
