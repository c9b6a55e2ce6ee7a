"""``flowgen fit-kappa``: find the strength of weighted pairs for a data set, and what it costs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from flowgen.cli.console import say

if TYPE_CHECKING:
    from flowgen.couplings import Strength


def run(cfg: DictConfig) -> Path:
    """Search as ``cfg`` says and return the file with what was found.

    Args:
        cfg: The composed config of ``configs/fit_kappa.yaml``.

    Raises:
        InputError: If a number is out of range, or source and data do not fit together.
    """
    import torch

    from flowgen.cli.assemble import data_set, make
    from flowgen.core import InputError, generator_for
    from flowgen.couplings import elbow, slopes, strengths
    from flowgen.evaluation import rows_text
    from flowgen.pipeline import atomic

    _check(cfg)
    data = data_set(cfg.data)
    out = Path(cfg.out).expanduser() if cfg.out else Path(f"kappa_{data.name}.json")
    if out.suffix != ".json":
        raise InputError(f"out={out}: what is found is written as .json, with a .png beside it")
    cfg.facts.shape = list(data.codec.encoded_shape(data.shape))
    generator = generator_for(cfg.seed)
    rows = torch.randperm(len(data.train), generator=generator)[: cfg.num_samples].tolist()
    x_1 = data.codec.encode(data.train.__getitems__(rows)["x_1"])
    x_0 = make(cfg.source, "source").sample(cfg.num_samples, generator=generator)
    steps = torch.arange(cfg.num_kappas, dtype=torch.float64) / (cfg.num_kappas - 1)
    kappas = (cfg.kappa_min * (cfg.kappa_max / cfg.kappa_min) ** steps).tolist()
    found = strengths(x_0, x_1, kappas)
    steep, chosen = slopes(found), elbow(found, cfg.slope)
    table = [asdict(row) | {"slope": slope} for row, slope in zip(found, steep, strict=True)]
    say(rows_text(table))
    say(
        "rv_x, rv_y: tilt of source and data (relative variance); ess: effective share of the "
        "pairs; cost: mean distance over that of random pairs"
    )
    say(_verdict(chosen, cfg))
    about = {
        "data": data.name,
        "dimensions": x_1[0].numel(),
        "num_source": len(x_0),
        "num_data": len(x_1),
        "seed": cfg.seed,
        "rule": f"smallest kappa from which on |d RV / d log kappa| < {cfg.slope}",
    }
    content = {"kappa": chosen.kappa if chosen else None, "protocol": about, "rows": table}
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    picture = out.with_suffix(".png")
    with atomic(picture) as temporary:
        _figure(found, chosen, f"{data.name}, {len(x_1)} samples").savefig(
            temporary, format="png", dpi=150
        )
    say(f"written: {out}, {picture}")
    return out


def _check(cfg: DictConfig) -> None:
    from flowgen.core import InputError

    for name, least in (("num_samples", 4), ("num_kappas", 2), ("seed", 0)):
        if cfg[name] < least:
            raise InputError(f"{name} must be >= {least}, got {cfg[name]}")
    if not 0 < cfg.kappa_min < cfg.kappa_max:
        raise InputError(
            f"kappa_min and kappa_max must be 0 < kappa_min < kappa_max, got {cfg.kappa_min} and "
            f"{cfg.kappa_max}"
        )


def _verdict(chosen: "Strength | None", cfg: DictConfig) -> str:
    if chosen is None:
        return (
            f"no elbow: the tilt still changes faster than slope={cfg.slope} at kappa_max="
            f"{cfg.kappa_max}; weights do not suit this data, or raise kappa_max"
        )
    return (
        f"elbow: coupling=weighted coupling.kappa={chosen.kappa:.3g}\n"
        f"there the pairs are {100 * (1 - chosen.cost):.2g} % nearer than random ones, at a tilt "
        f"of {chosen.rv_x:.2g} (source) and {chosen.rv_y:.2g} (data)"
    )


def _figure(rows: "Sequence[Strength]", chosen: "Strength | None", title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    kappas = [row.kappa for row in rows]
    for axes, names in zip(panels, (("rv_x", "rv_y"), ("ess", "cost")), strict=True):
        for name, marker in zip(names, "os", strict=True):
            values = [getattr(row, name) for row in rows]
            axes.plot(kappas, values, marker=marker, ms=3.5, lw=1.2, label=name)
        if chosen:
            axes.axvline(chosen.kappa, ls="--", lw=1, color="0.4", label="elbow")
        axes.set_xscale("log")
        axes.set_xlabel("kappa", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=8)
    panels[0].set_yscale("symlog", linthresh=0.01)
    panels[0].set_ylim(bottom=min(0.0, *(min(row.rv_x, row.rv_y) for row in rows)))
    panels[0].set_title("tilt", fontsize=9)
    panels[1].set_title("share of the pairs that counts, and their length", fontsize=9)
    figure.suptitle(title, fontsize=9)
    return figure
