"""``flowgen edit``: change images by a model's flow."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say

if TYPE_CHECKING:
    from torch import Tensor

    from flowgen.pipeline import Pipeline

KINDS = ("label", "prompt", "style")
"""What images are, and what is wanted, by name."""

_PARTS = ("left", "right", "top", "bottom", "centre")


def run(cfg: DictConfig) -> Path:
    """Edit as ``cfg`` says and return where the result is.

    Args:
        cfg: The composed config of ``configs/edit.yaml``.

    Raises:
        InputError: If the checkpoint, the images, a condition or a number cannot be used.
    """
    import torch

    from flowgen.cli.assemble import make
    from flowgen.cli.restore import home, restore
    from flowgen.core import InputError
    from flowgen.metrics import psnr, ssim
    from flowgen.pipeline.editing import edited
    from flowgen.pipeline.outputs import writer

    for name in ("num_images", "chunk"):
        if cfg[name] < 1:
            raise InputError(f"{name} must be >= 1, got {cfg[name]}")
    pipeline = restore(cfg)
    edit = make(cfg.edit, "edit")
    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.checkpoint) / "edited.png"
    writer(out)  # a name that cannot be written is told before anything is computed
    x, was = _images(cfg, pipeline)
    found = edited(
        pipeline,
        x,
        edit,
        was=was,
        asked={kind: _plain(cfg[kind]) for kind in KINDS},
        mask=_mask(cfg, tuple(x.shape[-2:])),
        seed=cfg.seed,
        chunk=cfg.chunk,
    )
    write = writer(out, columns=len(x))
    write(torch.cat([x, found]) if out.suffix == ".png" else found, None)
    small = min(x.shape[-2:]) < 11
    alike = f"{psnr(found, x):.1f} dB" + ("" if small else f", SSIM {ssim(found, x):.3f}")
    say(f"{len(x)} images edited, {alike} from what they were: {out}")
    return out


def _images(cfg: DictConfig, pipeline: "Pipeline") -> "tuple[Tensor, Any]":
    """Return images uint8 ``(n, c, h, w)`` and the conditions that describe them."""
    import torch

    from flowgen.cli.conditions import use_data
    from flowgen.cli.evaluate import data_of
    from flowgen.cli.source_images import images_at
    from flowgen.core import InputError

    told = {kind: _plain(cfg.was[kind]) for kind in KINDS if cfg.was[kind] is not None}
    if cfg.images is None:
        data = data_of(cfg, pipeline.about)
        batch = data.test.__getitems__(list(range(min(cfg.num_images, len(data.test)))))
        x = batch["x_1"]
        if x.dtype != torch.uint8:
            raise InputError(f"edit changes images, and {data.name} has none")
        if pipeline.conditioner is not None and not told:
            use_data(pipeline.conditioner, data)
            return x, pipeline.conditioner.take(batch)
    else:
        x = images_at("images", cfg.images, pipeline, cfg.num_images)
    if not told:
        return x, None
    return x, pipeline.conditions(range(len(x)), pipeline.asked(len(x), cond=told))


def _mask(cfg: DictConfig, size: tuple[int, ...]) -> Any:
    """Return where images are kept, bool ``(1, 1, h, w)``; None where nothing is said."""
    import torch

    from flowgen.core import InputError
    from flowgen.data.image_files import read_image

    if cfg.mask is None:
        return None
    height, width = size
    kept = torch.ones(1, 1, height, width, dtype=torch.bool)
    if cfg.mask in _PARTS:
        made_up = {
            "left": (slice(None), slice(None, width // 2)),
            "right": (slice(None), slice(width // 2, None)),
            "top": (slice(None, height // 2), slice(None)),
            "bottom": (slice(height // 2, None), slice(None)),
            "centre": (slice(height // 4, -(height // 4)), slice(width // 4, -(width // 4))),
        }[cfg.mask]
        kept[:, :, made_up[0], made_up[1]] = False
        return kept
    file = Path(str(cfg.mask)).expanduser()
    if not file.is_file():
        raise InputError(f"mask={cfg.mask}: give an image, or one of {', '.join(_PARTS)}")
    try:
        return read_image(file, size=(height, width), channels=1)[None] > 127
    except ValueError as error:
        raise InputError(f"mask={cfg.mask}: {error}") from error


def _plain(value: Any) -> Any:
    """Return what is asked for as plain values: one, or a list."""
    return list(value) if OmegaConf.is_list(value) else value
