"""Autoencoders of diffusers: found, built, told apart, and used for uint8 images."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgen.core import InputError

KINDS = (
    "AutoencoderKL",
    "AutoencoderTiny",
    "AutoencoderDC",
    "AsymmetricAutoencoderKL",
    "AutoencoderKLFlux2",
    "AutoencoderKLHunyuanImage",
    "AutoencoderKLKVAE",
    "VQModel",
)
"""Classes of diffusers that may serve: those whose latents of an image are ``(b, c, h, w)``."""


def built(settings: Mapping[str, Any]) -> nn.Module:
    """Return the autoencoder of diffusers with these settings and random weights.

    Raises:
        InputError: If the kind is unknown or the settings do not fit it.
    """
    # A heavy import, for those who use it.
    import diffusers

    kind = settings.get("_class_name")
    if kind not in KINDS:
        raise InputError(f"an autoencoder must be one of {', '.join(KINDS)}, got '{kind}'")
    own = {name: value for name, value in settings.items() if not name.startswith("_")}
    try:
        return getattr(diffusers, kind)(**own)
    except (TypeError, ValueError) as error:
        raise InputError(f"the autoencoder cannot be built: {error}") from error


def encoded(network: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return mean and deviation of the latents of uint8 images, None where they have none.

    Args:
        network: An autoencoder of diffusers.
        x: Images uint8 ``(b, c, h, w)``.
    """
    with torch.autocast(x.device.type, enabled=False):
        found = network.encode(x.float() / 127.5 - 1.0)
    if hasattr(found, "latent_dist"):
        return found.latent_dist.mean, found.latent_dist.std
    return (found.latents if hasattr(found, "latents") else found.latent), None


def decoded(network: Any, z: Tensor) -> Tensor:
    """Return images of about ``[-1, 1]`` from latents, as the autoencoder gives them."""
    with torch.autocast(z.device.type, enabled=False):
        return network.decode(z).sample


def digest_of(settings: Mapping[str, Any], network: nn.Module) -> str:
    """Return what tells an autoencoder from others: 16 hexadecimal digits of SHA-256."""
    plain = {name: value for name, value in settings.items() if not name.startswith("_diffusers")}
    found = hashlib.sha256(json.dumps(plain, sort_keys=True, default=list).encode())
    for name, value in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def own_scaling(settings: Mapping[str, Any]) -> tuple[float, float]:
    """Return the mean and deviation that an autoencoder was published with, of all its latents.

    Args:
        settings: Of the autoencoder: ``(z - shift_factor) * scaling_factor`` is about unit scale.

    Raises:
        InputError: If they name no scale.
    """
    scale = settings.get("scaling_factor")
    if not scale:
        raise InputError(f"this {settings.get('_class_name')} has no scaling_factor of its own")
    # As float32 holds them, so that codecs made in different places compare equal.
    pair = torch.tensor([float(settings.get("shift_factor") or 0.0), 1.0 / float(scale)])
    mean, std = pair.tolist()
    return mean, std


def read_autoencoder(place: str | Path) -> tuple[Any, dict[str, Any]]:
    """Return an autoencoder of diffusers and its settings.

    Args:
        place: Folder, or the name of a repository of the hub; either may be that of a whole
            pipeline, with the autoencoder in ``vae``.

    Raises:
        InputError: If there is none, or it is of an unknown kind.
    """
    import diffusers

    folder = str(Path(place).expanduser())
    kind = ""
    try:
        kind, inside = _kind_and_place(folder)
        if kind in KINDS:
            network = getattr(diffusers, kind).from_pretrained(
                folder,
                use_safetensors=True,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
                **inside,
            )
            # Some classes note more than they take, and could not be built from it.
            taken = inspect.signature(type(network)).parameters
            settings = {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in network.config.items()
                if name in taken
            }
            return network.eval().requires_grad_(False), {**settings, "_class_name": kind}
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"no autoencoder of diffusers at '{place}': {line}") from error
    raise InputError(f"'{place}' holds a {kind}; an autoencoder must be one of {', '.join(KINDS)}")


def _kind_and_place(folder: str) -> tuple[str, dict[str, Any]]:
    """Return the class at the top of a folder or repository, else in its ``vae``, and where it is.

    Raises:
        OSError: If there is none in either, with the reason for the top.
    """
    import diffusers

    kind, reason = "", None
    inside: dict[str, Any]
    for inside in ({}, {"subfolder": "vae"}):
        try:
            config = diffusers.AutoencoderKL.load_config(folder, **inside)
        except OSError as error:
            reason = reason or error
            continue
        kind = str(config.get("_class_name"))  # pyright: ignore[reportAttributeAccessIssue]
        if kind in KINDS:
            return kind, inside
    if not kind and reason is not None:
        raise reason
    return kind, {}
