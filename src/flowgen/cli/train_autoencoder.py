"""``flowgen train-autoencoder``: a small autoencoder of a data set of images, for its latents."""

import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from flowgen.cli.console import say

_CHECKED = 256
"""Held-out images whose error is told."""


def run(cfg: DictConfig) -> Path:
    """Train as ``cfg`` says and return the folder of the autoencoder.

    Args:
        cfg: The composed config of ``configs/train_autoencoder.yaml``.

    Raises:
        InputError: If the data are no images, a number is out of range, or the folder holds
            something else.
        SystemExit: With 128 + the number of the signal that ended the training.
    """
    import torch
    from lightning.pytorch import seed_everything

    from flowgen.cli.assemble import data_set, loop
    from flowgen.cli.train import quiet
    from flowgen.core import InputError
    from flowgen.data import stream
    from flowgen.training import (
        AutoencoderModule,
        Interruption,
        StopRequested,
        small_autoencoder,
    )

    quiet()
    data = data_set(cfg.data)
    if len(data.shape) != 3:
        raise InputError(f"an autoencoder needs images, and {data.name} has shape {data.shape}")
    out = Path(cfg.out).expanduser() if cfg.out else Path(f"autoencoder_{data.name}")
    with open_dict(cfg):
        cfg.out = str(out)
    _check_place(out)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    seed_everything(cfg.seed, workers=True, verbose=False)
    wanted = OmegaConf.to_container(cfg.autoencoder, resolve=True)
    assert isinstance(wanted, dict)
    settings = small_autoencoder(data.shape, **{str(name): value for name, value in wanted.items()})
    trainer = loop(cfg)
    module = AutoencoderModule(
        settings,
        lr=cfg.lr,
        total_steps=cfg.trainer.max_steps,
        kl_weight=cfg.kl_weight,
        seed=cfg.seed,
    )
    begun = _begun(_last(out))
    loader = stream(data.train, batch_size=cfg.batch_size, seed=cfg.seed, start=begun)
    trainer.callbacks.insert(0, Interruption())  # pyright: ignore[reportAttributeAccessIssue]
    say(
        f"data      {data.name}: {len(data.train)} for training, shape {tuple(data.shape)}\n"
        f"model     AutoencoderKL, {sum(p.numel() for p in module.parameters()):,} parameters\n"
        f"training  {trainer.max_steps} steps of {cfg.batch_size}"
        + (f", going on after step {begun}" if begun else "")
    )
    try:
        trainer.fit(module, loader, ckpt_path=str(_last(out)) if begun else None)
    except StopRequested as stop:
        trainer.save_checkpoint(_last(out))
        say(f"\nstopped by {stop} after step {trainer.global_step}: the same command goes on")
        raise SystemExit(128 + stop.signum) from None
    network = module.network.eval().cpu()
    network.save_pretrained(out, safe_serialization=True)
    shutil.rmtree(_last(out).parent, ignore_errors=True)
    say(
        f"{_told(network, data)}\nwritten: {out}\n"
        f"next: flowgen encode data={data.name} autoencoder={out} out=latents_{data.name}"
    )
    return out


def _last(out: Path) -> Path:
    """Where the training that is not finished keeps its state."""
    return out / "training" / "last.ckpt"


def _check_place(out: Path) -> None:
    from flowgen.core import InputError

    if (out / "config.json").exists():
        raise InputError(f"out={out} holds an autoencoder: give another folder, or delete it")
    taken = out.is_dir() and any(out.iterdir()) and not _last(out).parent.is_dir()
    if out.is_file() or taken:
        raise InputError(f"out={out} holds something else: give another folder")


def _begun(last: Path) -> int:
    """Return the steps that an interrupted training has taken."""
    import torch

    from flowgen.core import InputError

    if not last.is_file():
        return 0
    try:
        return int(torch.load(last, map_location="cpu", weights_only=True)["global_step"])
    except Exception as error:  # whatever a damaged file raises
        raise InputError(f"{last} is damaged: delete {last.parent} to start anew") from error


def _told(network: Any, data: Any) -> str:
    """Return how well held-out images come back."""
    import math

    import torch

    from flowgen.data import decoded, encoded

    x = data.test.__getitems__(list(range(min(_CHECKED, len(data.test)))))["x_1"]
    with torch.no_grad():
        z = torch.cat([encoded(network, part)[0] for part in x.split(64)])
        back = torch.cat([decoded(network, part) for part in z.split(64)])
    pixels = (back.clamp(-1, 1) + 1) * 127.5
    error = float((pixels - x.float()).square().mean())
    psnr = 10 * math.log10(255**2 / max(error, 1e-6))
    return (
        f"latents {tuple(z.shape[1:])} of images {tuple(x.shape[1:])}; held-out images come back "
        f"at {psnr:.1f} dB"
    )
