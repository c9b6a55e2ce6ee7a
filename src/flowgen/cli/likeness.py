"""How near images are to those they were made of, in a line."""

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from flowgen.metrics import LPIPS


def likeness(x: "Tensor", y: "Tensor", lpips: "LPIPS | None") -> str:
    """Return PSNR, SSIM and LPIPS of pairs of images, and why one of them is not measured.

    Args:
        x: Images uint8 ``(n, c, h, w)``.
        y: Those they belong to, row by row.
        lpips: The perceptual distance, None where its weights are not given.
    """
    from flowgen.metrics import psnr, ssim
    from flowgen.metrics.lpips import MIN_SIDE
    from flowgen.metrics.paired import SSIM_WINDOW

    side = min(x.shape[-2:])
    found = [f"PSNR {psnr(x, y):.1f} dB"]
    if side < SSIM_WINDOW:
        found.append(f"no SSIM (below {SSIM_WINDOW} pixels)")
    else:
        found.append(f"SSIM {ssim(x, y):.3f}")
    if side < MIN_SIDE:
        found.append(f"no LPIPS (below {MIN_SIDE} pixels)")
    elif lpips is None:
        found.append("no LPIPS (give lpips_weights)")
    else:
        found.append(f"LPIPS {float(lpips(x, y).mean()):.4f}")
    return ", ".join(found)


def lpips_of(cfg: DictConfig, device: "torch.device") -> Any:
    """Return the perceptual distance of ``lpips_weights``, None where none are given.

    Raises:
        InputError: If they are not two files with the right weights.
    """
    from flowgen.core import InputError
    from flowgen.metrics import LPIPS

    if cfg.lpips_weights is None:
        return None
    if len(cfg.lpips_weights) != 2:
        raise InputError("lpips_weights must be two files: AlexNet's and those of the heads")
    return LPIPS(*cfg.lpips_weights, device=device)
