"""``flowgen fit-sampler``: fit the steps of a sampler to a model and export both as one file."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say


def run(cfg: DictConfig) -> Path:
    """Fit as ``cfg`` says and return the exported file.

    Args:
        cfg: The composed config of ``configs/fit_sampler.yaml``.

    Raises:
        InputError: If the checkpoint, a number or the sampler cannot be used.
    """
    from flowgen.cli.assemble import make
    from flowgen.cli.restore import home
    from flowgen.core import InputError
    from flowgen.pipeline import load, save
    from flowgen.pipeline.fitting import fit_sampler

    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.checkpoint) / "fitted.safetensors"
    if out.suffix != ".safetensors":
        raise InputError(f"out={out}: a fitted sampler is exported with its model as .safetensors")
    model = load(cfg.checkpoint, weights=cfg.weights, device=cfg.device, trust_code=cfg.trust_code)
    if "_target_" in cfg.sampler:
        sampler = make(cfg.sampler, "sampler")
        stepper = OmegaConf.to_container(cfg.sampler.stepper, resolve=True)
    else:
        sampler = model.sampler.with_num_steps(cfg.sampler.num_steps)
        stepper = model.config["sampler"]["stepper"]
    assert isinstance(stepper, dict)
    fitted = fit_sampler(
        model.guided(make(cfg.guidance, "guidance")),
        sampler,
        {str(key): value for key, value in stepper.items()},
        solver=cfg.solver,
        num_samples=cfg.num_samples,
        seed=cfg.seed,
        iterations=cfg.iterations,
        teacher_steps=cfg.teacher_steps,
    )
    save(fitted.pipeline, out)
    nodes = fitted.pipeline.sampler.grid_for(fitted.pipeline.velocity()).tolist()
    say(f"time grid: {', '.join(f'{t:.6g}' for t in nodes)}")
    say(
        f"distance from RK4 with {cfg.teacher_steps} steps, on samples not fitted: "
        f"{fitted.before:.4g} before, {fitted.after:.4g} after"
    )
    say(f"evaluations of the field for each sample: {fitted.pipeline.nfe()}")
    say(f"written: {out}")
    return out
