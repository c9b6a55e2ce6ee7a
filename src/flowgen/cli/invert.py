"""``flowgen invert``: images back to their noise."""

from pathlib import Path

from omegaconf import DictConfig

from flowgen.cli.console import say


def run(cfg: DictConfig) -> Path:
    """Invert as ``cfg`` says and return the file.

    Args:
        cfg: The composed config of ``configs/invert.yaml``.

    Raises:
        InputError: If the checkpoint, the images, a condition or a number cannot be used.
    """
    import torch

    from flowgen.cli.given_images import given_images
    from flowgen.cli.likeness import likeness, lpips_of
    from flowgen.cli.restore import home, restore
    from flowgen.core import InputError
    from flowgen.pipeline.editing import from_noise, inverted
    from flowgen.pipeline.noise_file import ENDING, write_noise

    for name in ("num_images", "chunk"):
        if cfg[name] < 1:
            raise InputError(f"{name} must be >= 1, got {cfg[name]}")
    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.checkpoint) / f"noise{ENDING}"
    if out.suffix != ENDING:
        raise InputError(f"out={out}: noise is written to a file {ENDING}")
    pipeline = restore(cfg)
    lpips = lpips_of(cfg, pipeline.device)
    x, was = given_images(cfg, pipeline)
    noise = inverted(pipeline, x, was=was, chunk=cfg.chunk)
    again = torch.cat(list(from_noise(pipeline, noise, was=was, chunk=cfg.chunk)))
    write_noise(out, noise, was)
    say(
        f"noise of {len(x)} images, mean {float(noise.mean()):.3f}, standard deviation "
        f"{float(noise.std()):.3f}; it gives them back at {likeness(again, x, lpips)}\n"
        f"written: {out}\nnext: flowgen sample checkpoint={cfg.checkpoint} noise={out}"
    )
    return out
