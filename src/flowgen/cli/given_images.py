"""Images that the user names, or held-out ones, and what is known of them."""

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from torch import Tensor

    from flowgen.pipeline import Pipeline

KINDS = ("label", "prompt", "style")
"""What images are, and what is wanted, by name."""


def asked_of(cfg: DictConfig) -> dict[str, Any]:
    """Return what is wanted, by name: one entry, a list of them, or None."""
    return {kind: _plain(cfg[kind]) for kind in KINDS}


def given_images(cfg: DictConfig, pipeline: "Pipeline") -> "tuple[Tensor, Any]":
    """Return images uint8 ``(n, c, h, w)`` and the conditions that describe them.

    Args:
        cfg: With ``images`` (a file, a folder, or null for held-out images of the model's data),
            ``num_images`` and what they are under ``was``.
        pipeline: The model that will see them.

    Raises:
        InputError: If there are none, they cannot be read, or the model is not one of images.
    """
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
            raise InputError(f"images are needed, and {data.name} has none")
        if pipeline.conditioner is not None and not told:
            use_data(pipeline.conditioner, data)
            return x, pipeline.conditioner.take(batch)
    else:
        x = images_at("images", cfg.images, pipeline, cfg.num_images)
    if not told:
        return x, None
    return x, pipeline.conditions(range(len(x)), pipeline.asked(len(x), cond=told))


def _plain(value: Any) -> Any:
    return list(value) if OmegaConf.is_list(value) else value
