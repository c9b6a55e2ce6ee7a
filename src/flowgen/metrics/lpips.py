"""LPIPS: a perceptual distance of two images, by the features of an AlexNet.

``d(x, y) = sum_l mean_hw sum_c w_lc (f_l(x) - f_l(y))_c^2`` over five layers, where ``f_l`` are the
activations divided by their norm over channels and ``w_l >= 0`` were fitted to human judgements.
The weights come from two files in the layout they are published in: AlexNet's ``features.*`` and
the heads ``lin<i>.model.1.weight`` of LPIPS version 0.1.

Source: Zhang et al. 2018, arXiv 1801.03924, equation 1.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import conv2d

from flowgen.core import InputError
from flowgen.metrics.features import check_images

MIN_SIDE = 31
"""Smallest side of an image that AlexNet can see, in pixels."""

CHANNELS = (64, 192, 384, 256, 256)
"""Channels of the five layers."""

_ENDS = (0, 2, 5, 8, 10, 12)  # of the five slices of AlexNet's features, each up to a ReLU
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class PerceptualNetwork(nn.Module):
    """The distance of pairs of images as a function with a gradient; its weights learn nothing.

    Args:
        trunk: File with the weights of AlexNet (``alexnet-owt-*.pth``).
        heads: File with the weights of the five heads (``alex.pth`` of version 0.1).

    Raises:
        InputError: If a file is missing or holds something else.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: str | Path, heads: str | Path) -> None:
        super().__init__()
        network = _alexnet()
        state = {
            name.removeprefix("features."): value
            for name, value in _read(trunk).items()
            if name.startswith("features.")
        }
        try:
            network.load_state_dict(state)
            read = _read(heads)
            for i, c in enumerate(CHANNELS):
                self.register_buffer(f"head{i}", read[f"lin{i}.model.1.weight"].reshape(1, c, 1, 1))
        except (RuntimeError, KeyError) as error:
            raise InputError(
                f"{trunk} and {heads} do not hold the weights of AlexNet and of the heads of "
                f"LPIPS 0.1 ({' '.join(str(error).split())[:80]})"
            ) from error
        self.slices = nn.ModuleList(network[a:b] for a, b in pairwise(_ENDS))
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(
        self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]
    ) -> Float[Tensor, " n"]:
        """Return the distance of each pair, shape ``(n,)``.

        Args:
            x: Images in ``[-1, 1]`` with 1 or 3 channels, 31 pixels or more on a side.
            y: The same.

        Raises:
            InputError: If they are smaller.
        """
        if min(x.shape[-2:]) < MIN_SIDE:
            raise InputError(
                f"LPIPS needs images of {MIN_SIDE} pixels or more, got {tuple(x.shape[-2:])}"
            )
        a, b = ((side.expand(-1, 3, -1, -1) - self.shift) / self.scale for side in (x, y))
        total = a.new_zeros(len(x))
        for i, layers in enumerate(self.slices):
            a, b = layers(a), layers(b)
            apart = (_unit(a) - _unit(b)).square()
            total = total + conv2d(apart, getattr(self, f"head{i}")).mean(dim=(1, 2, 3))
        return total

    def train(self, mode: bool = True) -> "PerceptualNetwork":
        """Stay in evaluation mode, whatever the owner does."""
        del mode
        return super().train(False)


class LPIPS:
    """The perceptual distance of pairs of images; 0 for equal ones.

    Args:
        trunk: File with the weights of AlexNet (``alexnet-owt-*.pth``).
        heads: File with the weights of the five heads (``alex.pth`` of version 0.1).
        batch_size: Pairs in one pass, >= 1.
        device: Where to compute.

    Raises:
        InputError: If a file is missing or holds something else, or ``batch_size < 1``.
    """

    def __init__(
        self,
        trunk: str | Path,
        heads: str | Path,
        batch_size: int = 32,
        device: torch.device | str = "cpu",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be >= 1, got {batch_size}")
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._network = PerceptualNetwork(trunk, heads).to(self.device)

    @torch.no_grad()
    def __call__(
        self, x: UInt8[Tensor, "n c h w"], y: UInt8[Tensor, "m k r s"]
    ) -> Float[Tensor, " n"]:
        """Return the distance of each pair, shape ``(n,)``, on the CPU.

        Raises:
            InputError: If they are no images of one shape, or smaller than 31 pixels on a side.
        """
        check_images(x)
        check_images(y)
        if x.shape != y.shape:
            raise InputError(f"pairs must have one shape, got {tuple(x.shape)}, {tuple(y.shape)}")
        parts = zip(x.split(self.batch_size), y.split(self.batch_size), strict=True)
        return torch.cat([self._network(*map(self._scaled, part)).cpu() for part in parts])

    def _scaled(self, images: Tensor) -> Tensor:
        return images.to(self.device).float() / 127.5 - 1


def _unit(x: Tensor) -> Tensor:
    # Equal to x / (norm + 1e-10), but with a gradient where all channels are 0.
    return x / x.square().sum(dim=1, keepdim=True).clamp(min=1e-20).sqrt()


def _alexnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def _read(path: str | Path) -> dict[str, Any]:
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"lpips weights: no file {file}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"lpips weights: {file} is no file of weights") from error
