"""``flowgen export``: a model in a form that runs without flowgen, compared with its samples."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say

if TYPE_CHECKING:
    from flowgen.pipeline import Pipeline
    from flowgen.pipeline.export import Hub


def run(cfg: DictConfig) -> Path:
    """Export as ``cfg`` says and return what was written.

    Args:
        cfg: The composed config of ``configs/export.yaml``.

    Raises:
        InputError: If the checkpoint or a setting cannot be used, the model cannot be exported, or
            its samples are not those of the checkpoint; then nothing is uploaded either.
    """
    from flowgen.cli.restore import home, restore
    from flowgen.core import InputError
    from flowgen.pipeline.export import FORMS, Hub, export

    if cfg.push_to_hub is None and (cfg.private or cfg.licence is not None):
        raise InputError("private and licence are for push_to_hub=<user>/<name>")
    # What the hub would refuse is told before anything is computed.
    hub = None if cfg.push_to_hub is None else Hub(str(cfg.push_to_hub), private=cfg.private)
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
    if hub is not None:
        say(f"uploaded: {_pushed(cfg, hub, pipeline, out, difference)}")
    return out


def _pushed(cfg: DictConfig, hub: "Hub", pipeline: "Pipeline", out: Path, difference: float) -> str:
    """Upload what was exported with its card, and return the address."""
    from flowgen.cli.restore import home
    from flowgen.pipeline.export import Facts, model_card

    place = home(cfg.checkpoint)
    picture = _picture(place)
    told = _read(place / "evaluation.json")
    name = f"model{out.suffix}" if out.is_file() else ""
    protocol = {k: v for k, v in told.get("protocol", {}).items() if k != "checkpoint"}
    facts = Facts(
        form=str(cfg.to),
        repo_id=hub.repo_id,
        file=name,
        licence=cfg.licence,
        difference=difference,
        tolerance=cfg.tolerance,
        picture=picture is not None,
        training=_training(place),
        figures=_numbers(told.get("figures", {})),
        protocol=protocol,
    )
    return hub.push(out, name, model_card(pipeline, facts), picture)


def _picture(run: Path) -> Path | None:
    """Return samples of a run: those of ``flowgen sample``, else the last of its training."""
    own = run / "samples.png"
    return own if own.is_file() else max(run.glob("samples/step_*.png"), default=None)


def _training(run: Path) -> dict[str, Any]:
    """Return what a run folder says of the training, empty where there is none."""
    import csv
    from datetime import datetime

    about = _read(run / "run.json")
    found = {name: about[name] for name in ("seed", "device", "processes") if name in about}
    metrics = run / "metrics.csv"
    if metrics.is_file():
        with metrics.open(newline="") as lines:
            losses = [row["loss"] for row in csv.DictReader(lines) if row.get("loss")]
        if losses:
            found["last loss"] = float(losses[-1])
    sessions = [each for each in about.get("sessions", []) if each.get("ended")]
    if sessions:
        times = ((each["started"], each["ended"]) for each in sessions)
        seconds = sum(
            (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
            for start, end in times
        )
        found["wall time"] = f"{seconds / 3600:.2f} hours"
    if about.get("commit"):
        found["commit"] = about["commit"]
    return found


def _numbers(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{measure}, {name}": value
        for measure, own in figures.items()
        if isinstance(own, Mapping)
        for name, value in own.items()
        if isinstance(value, int | float)
    }


def _read(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file of a run; empty where it is missing or damaged."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
