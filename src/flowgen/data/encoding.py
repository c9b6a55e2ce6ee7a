"""Encode a data set of images once, for :class:`flowgen.data.LatentData`."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from flowgen.core import InputError
from flowgen.data.autoencoder import digest_of, encoded, own_scaling, read_autoencoder
from flowgen.data.latents import (
    AUTOENCODER,
    HEADER,
    MEAN,
    STD,
    TRAIN,
    Header,
    image_digest,
    word_digests,
)
from flowgen.data.protocol import DataSet
from flowgen.data.whole import whole

SCALINGS = ("data", "autoencoder")
"""Mean and deviation of latents: of each channel of the data, or as the autoencoder was published
with them, which is what pretrained models of its latents expect."""

Atomic = Callable[[Path], AbstractContextManager[Path]]
"""Gives a temporary file to write, which becomes the file at the end."""


def write_latents(
    folder: Path,
    data: DataSet,
    images: Mapping[str, Any],
    autoencoder: str,
    *,
    atomic: Atomic,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    scaling: str = "data",
    told: Callable[[int], object] = lambda count: None,
) -> Header:
    """Encode the training images of a data set into ``folder``; the header is written last.

    Args:
        folder: Empty or new.
        data: Images that are not augmented.
        images: Plain config of ``data``.
        autoencoder: Folder of diffusers, or the name of a repository of the hub.
        atomic: How a file is written whole.
        device: Where to encode.
        batch_size: Images at once.
        scaling: One of :data:`SCALINGS`.
        told: Is called with the number of images of each batch.

    Raises:
        InputError: If the autoencoder does not fit the images, or they are augmented.
    """
    network, settings = read_autoencoder(autoencoder)
    network = network.to(device)
    published = own_scaling(settings) if scaling == "autoencoder" else None
    means: list[Tensor] = []
    stds: list[Tensor] = []
    others: dict[str, list[Tensor]] = {}
    for batch in whole(data.train):
        for part in batch.pop("x_1").split(batch_size):
            try:
                with torch.no_grad():
                    mean, std = encoded(network, part.to(device))
            except RuntimeError as error:
                raise InputError(
                    f"'{autoencoder}' cannot encode images {tuple(data.shape)}: "
                    f"{str(error).splitlines()[0]}"
                ) from error
            means.append(mean.half().cpu().contiguous())
            if std is not None:
                stds.append(std.half().cpu().contiguous())
            told(len(mean))
        for name, value in batch.items():
            others.setdefault(name, []).append(value)
    tensors = {MEAN: torch.cat(means)} | {name: torch.cat(each) for name, each in others.items()}
    second = tensors[MEAN].float().square()
    if stds:
        tensors[STD] = torch.cat(stds)
        second = second + tensors[STD].float().square()
    mean = tensors[MEAN].float().mean(dim=(0, 2, 3))
    std = (second.mean(dim=(0, 2, 3)) - mean.square()).sqrt()
    if published is not None:
        mean, std = (torch.full_like(std, each) for each in published)
    header = Header(
        autoencoder,
        digest_of(settings, network),
        images,
        len(tensors[MEAN]),
        image_digest(data),
        tuple(data.shape),
        tuple(tensors[MEAN].shape[1:]),
        tuple(mean.tolist()),
        tuple(std.tolist()),
        word_digests(data),
    )
    folder.mkdir(parents=True, exist_ok=True)
    network.to("cpu").save_pretrained(folder / AUTOENCODER, safe_serialization=True)
    with atomic(folder / TRAIN) as temporary:
        save_file(tensors, temporary)
    with atomic(folder / HEADER) as temporary:
        temporary.write_text(json.dumps(asdict(header), indent=2) + "\n")
    return header
