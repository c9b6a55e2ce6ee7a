"""``flowgen evaluate ... num_steps=[...] samplers=[...]``: quality against cost in one run."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from flowgen.cli.console import say
from flowgen.cli.likeness import lpips_of


def asked_for(cfg: DictConfig) -> bool:
    """Return whether a sweep over samplers or numbers of steps is asked for."""
    return cfg.samplers is not None or cfg.num_steps is not None


def run_sweep(cfg: DictConfig, setting: Any, measures: list[Any], out: Path) -> dict[str, Any]:
    """Return the content of the result file; print the table as it grows, and draw the plot.

    Args:
        cfg: The composed config of ``configs/evaluate.yaml``.
        setting: What is evaluated.
        measures: Of the samples of every sampler.
        out: The result file; the plot lies beside it.

    Raises:
        InputError: If a sampler is unknown, or cannot take a number of steps.
    """
    from tqdm import tqdm

    from flowgen.core import InputError
    from flowgen.evaluation import Fine, protocol, sweep, variants

    steps = [] if cfg.num_steps is None else list(cfg.num_steps)
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in steps):
        raise InputError(f"num_steps must be whole numbers >= 1, got {steps}")
    own = setting.pipeline.sampler
    names = None if cfg.samplers is None else list(cfg.samplers)
    samplers = {type(own.stepper).__name__.lower(): own}
    if names is not None:
        samplers = {name: sampler_of(name, cfg) or own for name in names}
    if not samplers:
        raise InputError("samplers=[] leaves nothing to compare")
    wanted = variants(samplers, steps)
    fine = Fine(cfg.fine.num_steps, cfg.fine.num_samples)
    lpips = lpips_of(cfg, setting.pipeline.device)
    rows = []
    first = setting.shards.rank == 0
    with tqdm(total=len(wanted), desc="sweeping", leave=False, disable=not first) as bar:
        for row in sweep(setting, wanted, measures, fine, lpips=lpips):
            rows.append(row)
            bar.set_postfix_str(f"{row['sampler']} {row['num_steps']}", refresh=False)
            bar.update()
    about = protocol(setting) | {"fine": str(fine)}
    for name in ("sampler", "grid", "steps", "evaluations_per_sample"):
        del about[name]
    if first:
        _show(rows, out, f"{setting.data.name}, {setting.num_samples} samples")
    return {"figures": {}, "rows": rows, "protocol": about}


def _show(rows: list[dict[str, Any]], out: Path, title: str) -> None:
    """Print the table and draw the plot."""
    from flowgen.evaluation import rows_text, save_plot

    shown = [{k: v for k, v in row.items() if not k.endswith("_floor")} for row in rows]
    floors = {k: v for row in rows for k, v in row.items() if k.endswith("_floor")}
    say(rows_text([*shown, {k.removesuffix("_floor"): v for k, v in floors.items()}]))
    say("last line: floors; nfe: evaluations of the field; network_rows: what guidance makes of it")
    picture = out.with_suffix(".png")
    save_plot(rows, picture, title=title)
    say(f"plot: {picture}")


def sampler_of(name: str, cfg: DictConfig) -> Any:
    """Return the sampler that ``sampler=<name>`` would choose, None for the checkpoint's own.

    Raises:
        InputError: If there is no such choice.
    """
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from flowgen.cli.assemble import make
    from flowgen.cli.suggest import did_you_mean
    from flowgen.core import InputError

    known = GlobalHydra.instance().config_loader().get_group_options("sampler")
    if name not in known:
        hint = did_you_mean(str(name), known)
        raise InputError(f"samplers: no '{name}'{hint or '.'} Choices: {', '.join(known)}")
    config_name = HydraConfig.get().job.config_name
    node = compose(config_name, [f"sampler={name}", f"checkpoint={cfg.checkpoint!r}"]).sampler
    return make(node, f"sampler={name}") if "_target_" in node else None
