"""``flowgen edit``: change images by a model's flow."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from flowgen.cli.console import say

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
    from flowgen.cli.given_images import asked_of, given_images
    from flowgen.cli.likeness import likeness, lpips_of
    from flowgen.cli.restore import home, restore
    from flowgen.core import InputError
    from flowgen.pipeline.editing import Interpolation, edited
    from flowgen.pipeline.outputs import writer

    for name in ("num_images", "chunk"):
        if cfg[name] < 1:
            raise InputError(f"{name} must be >= 1, got {cfg[name]}")
    pipeline = restore(cfg)
    edit = make(cfg.edit, "edit")
    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.checkpoint) / "edited.png"
    writer(out)  # a name that cannot be written is told before anything is computed
    lpips = lpips_of(cfg, pipeline.device)
    x, was = given_images(cfg, pipeline)
    found = edited(
        pipeline,
        x,
        edit,
        was=was,
        asked=asked_of(cfg),
        mask=_mask(cfg, tuple(x.shape[-2:])),
        seed=cfg.seed,
        chunk=cfg.chunk,
    )
    if isinstance(edit, Interpolation):
        picture, columns, alike = edit.beside(x, found), edit.steps + 2, edit.ends(found)
        told = f"{len(found)} images between {len(x)}, whose own come back at"
    else:
        picture, columns, alike = torch.cat([x, found]), len(x), found
        told = f"{len(x)} images edited; to what they were"
    writer(out, columns=columns)(picture if out.suffix == ".png" else found, None)
    say(f"{told} {likeness(alike, x, lpips)}\nwritten: {out}")
    return out


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
