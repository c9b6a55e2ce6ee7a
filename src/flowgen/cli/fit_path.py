"""``flowgen fit-path``: the path of least kinetic energy for data, as a file to train with."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from flowgen.cli.console import say

if TYPE_CHECKING:
    from flowgen.paths import DataError, ErrorCurve, Schedule

WORTH = 0.02
"""Share of the energy below which two paths count as equal."""


class Fit(NamedTuple):
    """What was found: the error, the schedule, what it rests on, and bounds where there are any."""

    curve: "ErrorCurve"
    schedule: "Schedule"
    name: str
    protocol: dict[str, Any]
    bounds: "DataError | None" = None


def run(cfg: DictConfig) -> Path:
    """Fit as ``cfg`` says and return the file with the table.

    Args:
        cfg: The composed config of ``configs/fit_path.yaml``.

    Raises:
        InputError: If not exactly one of data and checkpoint is given, a number is out of range, or
            the model was not trained with independent pairs from Gaussian noise.
    """
    from flowgen.core import InputError
    from flowgen.evaluation import rows_text
    from flowgen.evaluation.kinetic_plot import save_kinetic_plot
    from flowgen.paths import VP, Linear, LinearVP, Trig, conditional_energy, kinetic_energy
    from flowgen.pipeline import save_schedule

    if (cfg.get("data") is None) == (cfg.checkpoint is None):
        raise InputError(
            "give one of data=<name> (fit from its points) and checkpoint=<run> (fit from a "
            "trained model)"
        )
    out = Path(cfg.out).expanduser() if cfg.out else None
    if out is not None and out.suffix != ".json":
        raise InputError(f"out={out}: the table is written as .json, with a .png beside it")
    for name, least in (("num_points", 2), ("seed", 0)):
        if cfg[name] < least:
            raise InputError(f"{name} must be >= {least}, got {cfg[name]}")
    fit = _from_points(cfg) if cfg.checkpoint is None else _from_model(cfg)
    out = out or _default(cfg, fit.name)

    rho = fit.curve.rho
    schedules = {"fitted": fit.schedule, "linear": Linear(), "trig": Trig()}
    schedules |= {"linear_vp": LinearVP(), "vp": VP()}
    rows = [
        {
            "path": name,
            "energy": kinetic_energy(schedule, fit.curve, rho=rho),
            "targets": conditional_energy(schedule, rho=rho),
        }
        for name, schedule in schedules.items()
    ]
    energies = {row["path"]: row["energy"] for row in rows}
    say(rows_text(rows))
    say("energy: of the flow, per dimension; targets: mean square of what a model regresses")
    say(_verdict(fit, energies))
    curve = fit.curve
    about = {
        "floor": cfg.floor,
        "curve": {
            "snr": curve.snr.tolist(),
            "mmse": curve.mmse.tolist(),
            "stderr": curve.stderr.tolist(),
            "variance": curve.variance,
            "mean_square": curve.mean_square,
        },
        "paths": rows,
        "protocol": fit.protocol,
    }
    save_schedule(fit.schedule, out, about)
    picture = out.with_suffix(".png")
    save_kinetic_plot(
        curve,
        {name: schedules[name] for name in ("fitted", "linear", "trig", "vp")},
        energies,
        picture,
        upper=None if fit.bounds is None else fit.bounds.upper,
        title=f"{fit.name}, {fit.protocol['from']}",
    )
    say(f"train with: path=kinetic_optimal path.schedule.file={out}")
    say(f"written: {out}, {picture}")
    return out


def _from_points(cfg: DictConfig) -> Fit:
    import torch

    from flowgen.cli.assemble import data_set
    from flowgen.core import generator_for
    from flowgen.paths import error_of_data
    from flowgen.pipeline import pick_device

    data = data_set(cfg.data)
    order = torch.randperm(len(data.train), generator=generator_for(cfg.seed, 0))
    x_1 = data.codec.encode(data.train.__getitems__(order[: cfg.num_points].tolist())["x_1"])
    device = pick_device(cfg.device)
    found = error_of_data(
        x_1.to(device),
        num_noise=cfg.num_noise,
        num_nodes=cfg.num_ratios,
        chunk=cfg.chunk,
        generator=generator_for(cfg.seed, 1, device=device),
    )
    protocol = {
        "from": f"{len(x_1)} points",
        "data": data.name,
        "num_points": found.num_points,
        "dimensions": found.dimensions,
        "num_noise": cfg.num_noise,
        "seed": cfg.seed,
        "linear_energy_between": list(found.energies),
        "memory_bound": found.memory_bound,
    }
    schedule = found.schedule(floor=cfg.floor, num_nodes=cfg.num_nodes)
    return Fit(found.curve, schedule, data.name, protocol, found)


def _from_model(cfg: DictConfig) -> Fit:
    import torch

    from flowgen.cli.evaluate import data_of
    from flowgen.core import InputError, generator_for
    from flowgen.paths import AffinePath, error_of_model
    from flowgen.pipeline import load
    from flowgen.pipeline.eval_mode import eval_mode

    model = load(cfg.checkpoint, weights=cfg.weights, device=cfg.device, trust_code=cfg.trust_code)
    _check_model(model)
    path = model.field.path
    if not isinstance(path, AffinePath):
        raise InputError("a path is fitted from a model whose path has no noise of its own")
    data = data_of(cfg, model.about)
    order = torch.randperm(len(data.test), generator=generator_for(cfg.seed, 0))
    batch = data.test.__getitems__(order[: cfg.num_samples].tolist())
    cond = None
    if model.conditioner is not None:
        model.conditioner.use(getattr(data, "captions", None))
        cond = {k: v.to(model.device) for k, v in model.conditioner.take(batch).items()}
    with eval_mode(model.field):
        curve = error_of_model(
            model.field,
            path,
            model.codec.encode(batch["x_1"].to(model.device)),
            cond,
            num_samples=cfg.num_samples,
            num_nodes=cfg.num_ratios,
            chunk=cfg.chunk,
            generator=generator_for(cfg.seed, 1, device=model.device),
        )
    protocol = {
        "from": f"the model {cfg.checkpoint}",
        "data": data.name,
        "num_held_out": len(batch["x_1"]),
        "num_samples": cfg.num_samples,
        "weights": cfg.weights,
        "seed": cfg.seed,
    }
    schedule = curve.schedule(floor=cfg.floor, num_nodes=cfg.num_nodes)
    return Fit(curve, schedule, data.name, protocol)


def _check_model(model: Any) -> None:
    """Refuse models whose loss does not tell the error of the data."""
    from flowgen.core import InputError
    from flowgen.data import Gaussian
    from flowgen.pipeline.score import independent_pairs

    source = model.source
    if not (isinstance(source, Gaussian) and source.std == 1):
        raise InputError(
            f"a path is fitted for a standard Gaussian source, and this model starts from "
            f"{type(source).__name__}"
        )
    if not independent_pairs(model.about):
        raise InputError(
            "a path is fitted for independent pairs, and the coupling of this model's training "
            "ties noise to data (or is not told): fit from points with data=<name>"
        )


def _default(cfg: DictConfig, name: str) -> Path:
    from flowgen.cli.restore import home

    if cfg.checkpoint is None:
        return Path(f"kinetic_{name}.json")
    return home(cfg.checkpoint) / "kinetic_path.json"


def _verdict(fit: Fit, energies: Mapping[str, float]) -> str:
    from flowgen.paths import Trig

    lines = []
    more = energies["linear"] / energies["fitted"] - 1 if energies["fitted"] > 0 else float("inf")
    if isinstance(fit.schedule, Trig):
        lines.append("the data are like a Gaussian: no table is better than trig, so that is kept")
    elif more < -WORTH:
        lines.append("the floor costs more than the path gains over linear: lower floor")
    elif more < WORTH:
        lines.append(
            f"the linear path has the same energy (within {100 * WORTH:.0f} %): expect no "
            "difference to it"
        )
    else:
        lines.append(f"the linear path has {100 * more:.2g} % more energy than the fitted one")
    bounds = fit.bounds
    if bounds is not None and not bounds.trustworthy:
        least, largest = bounds.energies
        lines.append(
            f"warning: {bounds.num_points} points in {bounds.dimensions} dimensions do not tell "
            f"the energy: for the linear path it is between {least:.4g} and {largest:.4g} (the "
            "band in the plot). Fit from a trained model instead: flowgen fit-path "
            "checkpoint=<run>"
        )
    return "\n".join(lines)
