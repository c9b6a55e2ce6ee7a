"""Inception features by the standard protocol of FID, with weights from a file.

The weights are no part of any package: give the file of the usual PyTorch port of TensorFlow's
``inception-2015-12-05`` (``pt_inception-2015-12-05-6726825d.pth``). Images are resized to 299x299
as TensorFlow 1 did, bilinear from the upper left corner and without antialiasing, and mapped to
``(value - 128) / 128``. With 50 000 samples against the whole training set a Frechet distance of
these features is what papers call FID; with fewer, or against held-out images, it cannot be
compared with theirs.

Source: Heusel et al. 2017, arXiv 1706.08500; on resizing Parmar et al. 2022, arXiv 2104.11222.
"""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowgen.core import InputError
from flowgen.metrics.features import check_images
from flowgen.metrics.inception_network import FIDInception

INCEPTION_SIZE = 299
"""Height and width that images are resized to, in pixels."""


class InceptionFeatures:
    """2048 pooled features of the Inception-v3 of FID.

    Args:
        weights: File with its ``state_dict``.
        batch_size: Images in one pass, >= 1.
        device: Where to compute; features come back to the CPU.

    Raises:
        InputError: If ``batch_size < 1``, or the file is missing or holds something else.
    """

    name = "inception"
    protocol = (
        "Inception-v3 of FID (inception-2015-12-05), pooled 2048 features, images resized to "
        "299x299 as by TensorFlow 1: bilinear, corner-aligned grid, no antialiasing"
    )
    num_features = 2048

    def __init__(
        self,
        weights: str | Path,
        batch_size: int = 32,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be >= 1, got {batch_size}")
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._network = _loaded(Path(weights).expanduser()).to(self.device)

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of ``images (n, c, h, w)``, float32 ``(n, 2048)`` on the CPU.

        Raises:
            InputError: If the images are not uint8 with 1 or 3 channels.
        """
        check_images(images)
        parts = [self._features(part) for part in images.split(self.batch_size)]
        return torch.cat(parts) if parts else torch.empty(0, self.num_features)

    def _features(self, images: Tensor) -> Tensor:
        x = images.to(self.device).float().expand(-1, 3, -1, -1)
        x = resize_like_tensorflow_1(x, INCEPTION_SIZE)
        return self._network((x - 128) / 128).cpu()


def resize_like_tensorflow_1(x: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c s s"]:
    """Return images resized to ``size`` by bilinear interpolation at ``i * old / new``.

    torch interpolates at ``(i + 1/2) old / new - 1/2``, which shifts the picture by up to half a
    pixel; the features of FID were defined on the other grid.

    Args:
        x: Images ``(n, c, h, w)``.
        size: New height and width, >= 1.
    """
    rows, columns = (_weights(old, size).to(x) for old in x.shape[-2:])
    return rows @ x @ columns.mT


def _weights(old: int, new: int) -> Tensor:
    """Return the matrix ``(new, old)`` of linear interpolation along one axis."""
    place = torch.arange(new, dtype=torch.float64) * (old / new)
    low = place.floor().long().clamp(max=old - 1)
    high = (low + 1).clamp(max=old - 1)
    share = place - low
    matrix = torch.zeros(new, old, dtype=torch.float64)
    row = torch.arange(new)
    matrix.index_put_((row, low), 1 - share, accumulate=True)
    matrix.index_put_((row, high), share, accumulate=True)
    return matrix


def _loaded(path: Path) -> FIDInception:
    if not path.is_file():
        raise InputError(
            f"inception_weights={path}: no such file; it must hold the weights of the PyTorch port "
            "of inception-2015-12-05 (pt_inception-2015-12-05-6726825d.pth)"
        )
    with torch.device("meta"):
        network = FIDInception()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        # The classifier is not used.
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
        network.load_state_dict(state, assign=True)
    except Exception as error:
        raise InputError(
            f"inception_weights={path} does not hold the weights of the Inception-v3 of FID "
            f"({' '.join(str(error).split())[:120]})"
        ) from error
    return network.eval().requires_grad_(False)
