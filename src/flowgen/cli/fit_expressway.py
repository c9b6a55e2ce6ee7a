"""``flowgen fit-expressway``: transport from noise to a late time of a trained model's path."""

from pathlib import Path

from omegaconf import DictConfig

from flowgen.cli.console import say


def run(cfg: DictConfig) -> Path:
    """Fit as ``cfg`` says and return the file.

    Args:
        cfg: The composed config of ``configs/fit_expressway.yaml``.

    Raises:
        InputError: If a number is out of range, or data and model do not fit.
        TrainingFailedError: If the shares did not become equal enough within the steps.
    """
    import torch

    from flowgen.cli.evaluate import data_of
    from flowgen.cli.fit_coupling import fitted, training_set
    from flowgen.cli.restore import home
    from flowgen.core import InputError, Pair, generator_for
    from flowgen.couplings import SemidiscreteSolver, save_expressway
    from flowgen.models import LabelConditioner
    from flowgen.paths import AffinePath
    from flowgen.pipeline import atomic, load

    if not 0 < cfg.start < 1:
        raise InputError(f"start must be a time in (0, 1), got {cfg.start}")
    if cfg.seed < 0:
        raise InputError(f"seed must be >= 0, got {cfg.seed}")
    solver = SemidiscreteSolver(
        batch=cfg.batch_size, max_steps=cfg.max_steps, threshold=cfg.threshold
    )
    out = Path(cfg.out).expanduser() if cfg.out else None
    if out is not None and out.suffix != ".safetensors":
        raise InputError(f"out={out}: targets are written as .safetensors")
    model = load(cfg.checkpoint, device=cfg.device, trust_code=cfg.trust_code)
    path = model.field.path
    if not isinstance(path, AffinePath):
        raise InputError("fit-expressway needs a model with an affine path")
    out = out or home(cfg.checkpoint) / "expressway.safetensors"
    data = data_of(cfg, model.about)
    x_1, label, _ = training_set(data, str(model.device))
    if x_1.shape[1:] != model.shape:
        raise InputError(
            f"the data have shape {tuple(x_1.shape[1:])}, the model makes {model.shape}"
        )
    if not (model.conditioner is None or isinstance(model.conditioner, LabelConditioner)):
        raise InputError(
            "targets are kept with a label at most, and this model takes "
            f"{', '.join(model.conditioner.kinds)}"
        )
    label = label if model.conditioner is not None else None
    generator = generator_for(cfg.seed, device=x_1.device)
    noise = model.source.sample(len(x_1), generator=generator, device=x_1.device)
    times = torch.full((len(x_1),), float(cfg.start), device=x_1.device)
    with torch.no_grad():
        target = path.sample(Pair(noise, x_1), times).x_t
    potential, _ = fitted(
        target,
        label,
        data,
        solver,
        lambda n: model.source.sample(n, generator=generator, device=x_1.device),
        f"threshold={cfg.threshold} in {cfg.max_steps} steps",
    )
    with atomic(out) as temporary:
        save_expressway(temporary, float(cfg.start), target, potential, label)
    say(
        f"written: {out} ({len(x_1)} targets at time {cfg.start})\nnext: flowgen sample "
        f"checkpoint={cfg.checkpoint} sampler=expressway sampler.start.file={out}"
    )
    return out
