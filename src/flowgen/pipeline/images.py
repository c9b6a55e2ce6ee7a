"""Draw samples: a grid of images, or a scatter plot of points; written as PNG.

Small images are enlarged by an integer factor with nearest neighbours, so that a pixel stays a
pixel and an 8x8 digit can be read.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.pipeline.checkpoint import atomic


def is_image(samples: Tensor) -> bool:
    """Return whether samples ``(n, *d)`` are images: uint8 with 1 or 3 channels first."""
    return samples.dtype == torch.uint8 and samples.ndim == 4 and samples.shape[1] in (1, 3)


def grid(images: Tensor, columns: int, *, min_side: int = 32, padding: int = 2) -> Tensor:
    """Return one image with the given images in rows.

    Args:
        images: uint8 ``(n, c, h, w)``.
        columns: Images in a row.
        min_side: Images smaller than this are enlarged by an integer factor.
        padding: Width of the white gap, in pixels.

    Returns:
        uint8 ``(c, H, W)``.
    """
    zoom = max(1, -(-min_side // min(images.shape[-2:])))
    images = images.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    canvas = images.new_full(
        (channels, rows * (height + padding) + padding, columns * (width + padding) + padding), 255
    )
    for i, image in enumerate(images):
        top = padding + (i // columns) * (height + padding)
        left = padding + (i % columns) * (width + padding)
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def save_image(image: Tensor, path: Path) -> None:
    """Write one uint8 image ``(c, h, w)`` as PNG."""
    from PIL import Image

    array = image.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    with atomic(path) as temporary:
        picture.save(temporary, format="PNG")


def save_scatter(points: Tensor, path: Path, *, title: str = "") -> None:
    """Write a scatter plot of points ``(n, d)``, in their first two coordinates, as PNG."""
    from matplotlib.figure import Figure

    title = _in_plane(points, title)
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(points[:, 0], points[:, 1], s=3, alpha=0.6, linewidths=0)
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=9)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def save_comparison(samples: Mapping[str, Tensor], path: Path, *, title: str = "") -> None:
    """Write several sets of samples as one PNG: a row of images, or a plot of points, for each.

    Args:
        samples: By name, as many of each and all of one shape.
        path: Of the file.
        title: Above plots.

    Raises:
        InputError: If samples are neither images nor points ``(n, d)``, ``d >= 2``.
    """
    first = next(iter(samples.values()))
    if is_image(first):
        save_image(grid(torch.cat(list(samples.values())), len(first)), path)
        return
    if first.ndim != 2 or first.shape[1] < 2:
        save_picture(first, path)  # which says why it cannot
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(samples), 3.3), layout="constrained")
    panels = figure.subplots(1, len(samples), squeeze=False, sharex=True, sharey=True).flat
    for axes, (name, points) in zip(panels, samples.items(), strict=True):
        axes.scatter(points[:, 0], points[:, 1], s=3, alpha=0.6, linewidths=0)
        axes.set_aspect("equal")
        axes.set_title(name, fontsize=9)
    figure.suptitle(_in_plane(first, title), fontsize=9)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def save_beside(starts: Tensor, ends: Tensor, path: Path, *, columns: int = 10) -> None:
    """Write where samples started and where they ended as one PNG.

    Images: each start with its end to its right, ``columns / 2`` pairs in a row. Points: two plots.

    Args:
        starts: In data space ``(n, *d)``.
        ends: As many, of the same shape.
        path: Of the file.
        columns: Images in a row, rounded down to an even number, at least 2.

    Raises:
        InputError: If they are neither images nor points ``(n, d)``, ``d >= 2``.
    """
    if is_image(ends):
        pairs = torch.stack([starts, ends], dim=1).flatten(0, 1)
        save_image(grid(pairs, max(2, columns - columns % 2)), path)
    else:
        save_comparison({"source": starts, "result": ends}, path)


def save_picture(samples: Tensor, path: Path, *, columns: int = 10, title: str = "") -> None:
    """Write samples as one picture: images as a grid, points ``(n, d)`` as a scatter plot.

    Of points with more than two coordinates the first two are drawn, and the title says so.

    Raises:
        InputError: If samples are neither.
    """
    if is_image(samples):
        save_image(grid(samples, columns), path)
    elif samples.ndim == 2 and samples.shape[1] >= 2:
        save_scatter(samples, path, title=title)
    else:
        raise InputError(
            f"samples of shape {tuple(samples.shape[1:])} cannot be drawn: write .npz or .pt"
        )


def _in_plane(points: Tensor, title: str) -> str:
    """Return the title of a plot of points, saying if it leaves out coordinates."""
    if points.shape[1] == 2:
        return title
    return f"{title} (2 of {points.shape[1]} coordinates)".strip()
