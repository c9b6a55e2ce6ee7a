"""Autoencoders of diffusers: found, built, told apart, and used for uint8 images."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgen.core import InputError

KINDS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")
"""Classes of diffusers that may serve."""


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
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
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
        place: Folder, or the name of a repository of the hub; a folder may be that of a whole
            pipeline, with the autoencoder in ``vae``.

    Raises:
        InputError: If there is none, or it is of an unknown kind.
    """
    import diffusers

    folder = Path(place).expanduser()
    whole = (folder / "vae" / "config.json").is_file()
    inside: dict[str, Any] = {"subfolder": "vae"} if whole else {}
    kind = ""
    try:
        config = diffusers.AutoencoderKL.load_config(str(folder), **inside)
        kind = str(config.get("_class_name"))  # pyright: ignore[reportAttributeAccessIssue]
        if kind in KINDS:
            network = getattr(diffusers, kind).from_pretrained(
                str(folder),
                use_safetensors=True,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
                **inside,
            )
            settings = {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in network.config.items()
                if name == "_class_name" or not name.startswith("_")
            }
            return network.eval().requires_grad_(False), {**settings, "_class_name": kind}
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"no autoencoder of diffusers at '{place}': {line}") from error
    raise InputError(f"'{place}' holds a {kind}; an autoencoder must be one of {', '.join(KINDS)}")
