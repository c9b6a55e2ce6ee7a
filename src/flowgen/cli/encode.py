"""``flowgen encode``: the latents of a data set of images, once and for all."""

from pathlib import Path
from typing import NoReturn

from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say


def run(cfg: DictConfig) -> Path:
    """Encode as ``cfg`` says and return the folder of the latents.

    Args:
        cfg: The composed config of ``configs/encode.yaml``.

    Raises:
        InputError: If the data are no images or augmented, the autoencoder cannot be read or does
            not fit them, or the folder holds something else.
    """
    from tqdm import tqdm

    from flowgen.cli.assemble import data_set
    from flowgen.core import InputError
    from flowgen.data import SCALINGS, write_latents
    from flowgen.pipeline import atomic
    from flowgen.pipeline.checkpoint import pick_device

    if cfg.scaling not in SCALINGS:
        raise InputError(f"scaling must be one of {', '.join(SCALINGS)}, got {cfg.scaling}")
    if cfg.batch_size < 1:
        raise InputError(f"batch_size must be >= 1, got {cfg.batch_size}")
    data = data_set(cfg.data)
    if len(data.shape) != 3:
        raise InputError(f"latents are of images, and {data.name} has shape {data.shape}")
    out = Path(cfg.out).expanduser() if cfg.out else Path(f"latents_{data.name}")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"out={out} is not empty: give another folder, or delete it")
    images = OmegaConf.to_container(cfg.data, resolve=True)
    assert isinstance(images, dict)
    device = pick_device(cfg.device)
    bar: tqdm[NoReturn] | None = None

    def told(count: int) -> None:
        nonlocal bar
        # Not before all is checked.
        bar = bar or tqdm(total=len(data.train), desc="encoding", unit="image")
        bar.update(count)

    try:
        header = write_latents(
            out,
            data,
            {str(name): value for name, value in images.items()},
            str(cfg.autoencoder),
            atomic=atomic,
            device=device,
            batch_size=cfg.batch_size,
            scaling=cfg.scaling,
            told=told,
        )
    finally:
        if bar is not None:
            bar.close()
    say(
        f"latents {header.latent_shape} of {header.num_images} images {header.image_shape}\n"
        f"written: {out}\nnext: flowgen train data=latents data.folder={out}"
    )
    return out
