"""Distances of images that belong together, row by row: what a faster solver changes.

``PSNR = 10 log_10(255^2 / MSE)`` in decibels, of each image, and SSIM, which compares means,
variances and the correlation of 11x11 Gaussian windows: 1 for equal images.

Sources: Wang et al. 2004, "Image quality assessment: from error visibility to structural
similarity", equation 13, by torchmetrics.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowgen.core import InputError, flatten
from flowgen.metrics.features import check_images

MAX_PSNR = 100.0
"""What equal images count as, in decibels: a mean could not hold an infinity."""

SSIM_WINDOW = 11
"""Side of the window of SSIM in pixels; smaller images have none."""


def rmse(x: Float[Tensor, "n *d"], y: Float[Tensor, "m *e"]) -> float:
    """Return the root of the mean square of ``x - y`` over all rows and entries.

    Raises:
        InputError: If shapes differ or there are no rows.
    """
    if x.shape != y.shape or len(x) == 0:
        raise InputError(
            f"x and y must have one shape and at least 1 row, got {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    return float((x.detach().cpu().double() - y.detach().cpu().double()).square().mean().sqrt())


def psnr(x: UInt8[Tensor, "n c h w"], y: UInt8[Tensor, "m k r s"]) -> float:
    """Return the mean over pairs of the peak signal-to-noise ratio, in decibels, at most 100.

    Raises:
        InputError: If they are no images of one shape.
    """
    _check_pairs(x, y)
    error = flatten(x.cpu().double() - y.cpu().double()).square().mean(dim=1)
    return float((10 * torch.log10(255.0**2 / error)).clamp(max=MAX_PSNR).mean())


def ssim(x: UInt8[Tensor, "n c h w"], y: UInt8[Tensor, "m k r s"]) -> float:
    """Return the mean structural similarity of pairs, in [-1, 1].

    Raises:
        InputError: If they are no images of one shape, or smaller than 11 pixels on a side.
    """
    _check_pairs(x, y)
    if min(x.shape[-2:]) < SSIM_WINDOW:
        raise InputError(
            f"SSIM needs images of {SSIM_WINDOW} pixels or more on each side, got "
            f"{tuple(x.shape[-2:])}"
        )
    from torchmetrics.functional.image import structural_similarity_index_measure

    value = structural_similarity_index_measure(
        x.cpu().double(), y.cpu().double(), data_range=255.0
    )
    assert isinstance(value, Tensor)
    return float(value)


def _check_pairs(x: Tensor, y: Tensor) -> None:
    check_images(x)
    check_images(y)
    if x.shape != y.shape or len(x) == 0:
        raise InputError(
            f"pairs of images must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
