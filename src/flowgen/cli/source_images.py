"""Images that a command is given: to change, or to start a model from data to data from."""

from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from flowgen.cli.console import say
from flowgen.core import InputError
from flowgen.data import DataSource
from flowgen.data.image_files import find_images, read_image
from flowgen.pipeline import Pipeline
from flowgen.pipeline.source_data import opened


def started(cfg: DictConfig, pipeline: Pipeline) -> tuple[Pipeline, int]:
    """Return the pipeline with the source that ``cfg.images`` gives, and how many to draw.

    Of a model from data to data these are at most as many as it has source samples.

    Raises:
        InputError: If the model starts from noise and images are given, or they cannot be read.
    """
    if cfg.images is not None:
        if not isinstance(pipeline.source, DataSource):
            raise InputError(
                f"images={cfg.images}: this model starts from {type(pipeline.source).__name__}, "
                "not from images; flowgen edit changes images by such a model"
            )
        pipeline = pipeline.starting_from(images_at("images", cfg.images, pipeline))
    return pipeline, at_most(pipeline, cfg.num_samples)


def at_most(pipeline: Pipeline, wanted: int) -> int:
    """Return how many samples to draw: no source of data is started from twice, which is told.

    Raises:
        InputError: If a source of data is not to be found.
    """
    if not isinstance(pipeline.source, DataSource):
        return wanted
    there = opened(pipeline.source, pipeline.codec, pipeline.about).count
    if there < wanted:
        say(f"the source has {there} samples to start from: so many are drawn")
    return min(there, wanted)


def images_at(key: str, place: str, pipeline: Pipeline, most: int | None = None) -> Tensor:
    """Return the images of a file or folder as the model's data are: uint8 ``(n, c, h, w)``.

    Args:
        key: Of the setting, for messages.
        place: File or folder.
        pipeline: Whose images have the size.
        most: Images to read, all if None.

    Raises:
        InputError: If there are none, one cannot be read, or the model has no images.
    """
    shape = getattr(pipeline.codec, "image_shape", pipeline.shape)
    path = Path(place).expanduser()
    if not path.exists():
        raise InputError(f"{key}={place}: there is no such file or folder")
    files = [path] if path.is_file() else find_images(path)[:most]
    if not files:
        raise InputError(f"{key}={place}: there is no image in it")
    if len(shape) != 3:
        raise InputError(f"{key}={place}: the model's samples are no images but {tuple(shape)}")
    try:
        read = [read_image(file, size=shape[1:], channels=shape[0]) for file in files]
    except ValueError as error:
        raise InputError(f"{key}={place}: {error}") from error
    return torch.stack(read)
