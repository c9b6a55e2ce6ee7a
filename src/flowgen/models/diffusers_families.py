"""How the networks of diffusers are called, each in its own convention.

Every family is one function ``(network, given) -> answer`` in ours: time 0 is noise, time 1 data.
A flow-matching model of diffusers counts noise ``1 - t``, times 1000 where its pipeline says so; a
diffusion model counts steps of noise. What they answer (noise minus data, velocity, noise, ...) is
told by their family or their scheduler and converted by :mod:`flowgen.paths`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgen.core import InputError

_CLOSE = 1e-3  # of a step of noise: what float32 times lose of a whole number


class Given(NamedTuple):
    """What a network is asked."""

    x: Tensor
    """States ``(b, c, h, w)``."""

    t: Tensor
    """Times ``(b,)``, 0 for noise."""

    text: Tensor | None
    """States of tokens ``(b, l, w)``."""

    mask: Tensor | None
    """Which of them are tokens, ``(b, l)``."""

    pooled: Tensor | None
    """One vector of the text, ``(b, p)``."""

    num_steps: int
    """Steps of noise a diffusion model was trained on."""

    guidance: float | None
    """Scale that a guidance-distilled model is told."""


def flux(network: Any, given: Given) -> Tensor:
    """Patches of 2 x 2 as tokens, with their places; text has no place."""
    b, c, h, w = given.x.shape
    assert given.text is not None
    tokens = given.x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    places = torch.zeros(h // 2, w // 2, 3, device=given.x.device, dtype=given.x.dtype)
    places[..., 1] += torch.arange(h // 2, device=given.x.device)[:, None]
    places[..., 2] += torch.arange(w // 2, device=given.x.device)
    scale = None
    if network.config.guidance_embeds:
        if given.guidance is None:
            raise InputError(
                "this model is told the scale of its guidance: give guidance, e.g. 3.5"
            )
        scale = torch.full((b,), given.guidance, device=given.x.device, dtype=given.x.dtype)
    found = network(
        hidden_states=tokens.reshape(b, h * w // 4, 4 * c),
        encoder_hidden_states=given.text,
        pooled_projections=given.pooled,
        timestep=1 - given.t,
        img_ids=places.reshape(-1, 3),
        txt_ids=places.new_zeros(given.text.shape[1], 3),
        guidance=scale,
    ).sample
    pixels = found.reshape(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return pixels.reshape(b, c, h, w)


def lumina(network: Any, given: Given) -> Tensor:
    """Counts time as we do, and answers with the velocity."""
    return network(
        hidden_states=given.x,
        timestep=given.t,
        encoder_hidden_states=given.text,
        encoder_attention_mask=given.mask,
    ).sample


def pixart(network: Any, given: Given) -> Tensor:
    """Predicts noise, and a variance that flows do not need; large ones are told the size."""
    b, _, h, w = given.x.shape
    told: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
    if network.use_additional_conditions:
        # Its autoencoder has a factor of 8; sizes are those of the image.
        told["resolution"] = given.x.new_tensor([[8.0 * h, 8.0 * w]]).expand(b, 2)
        told["aspect_ratio"] = given.x.new_tensor([[h / w]]).expand(b, 1)
    found = network(
        given.x,
        encoder_hidden_states=given.text,
        encoder_attention_mask=given.mask,
        timestep=_steps(given),
        added_cond_kwargs=told,
    ).sample
    return found[:, : given.x.shape[1]]


def sana(network: Any, given: Given) -> Tensor:
    """Noise times 1000, scaled as its config says."""
    found = network(
        given.x,
        encoder_hidden_states=given.text,
        encoder_attention_mask=given.mask,
        timestep=1000 * (1 - given.t) * network.config.timestep_scale,
    ).sample
    return found[:, : given.x.shape[1]]


def sd3(network: Any, given: Given) -> Tensor:
    """Noise times 1000, and one vector of the text beside its tokens."""
    return network(
        hidden_states=given.x,
        timestep=1000 * (1 - given.t),
        encoder_hidden_states=given.text,
        pooled_projections=given.pooled,
    ).sample


def unet(network: Any, given: Given) -> Tensor:
    """Steps of noise; text by cross-attention."""
    return network(given.x, _steps(given), encoder_hidden_states=given.text).sample


class Family(NamedTuple):
    """Networks of one class of diffusers."""

    call: Callable[[Any, Given], Tensor]
    """How they are called."""

    text_width: Callable[[Any], int]
    """Features of a token that they read, from their config."""

    pooled_width: Callable[[Any], int]
    """Size of the one vector they read beside the tokens, from their config; 0 for none."""

    answers: str | None
    """Class of :mod:`flowgen.paths` that says what they predict; None: their scheduler says it."""

    embedder: str
    """Name of the part that embeds the time."""

    last: str
    """Name of the last linear layer or convolution."""

    refused: Callable[[Any], str | None] = lambda config: None
    """Why a network with this config cannot be used, or None."""


def _unet_refused(config: Any) -> str | None:
    if config.get("addition_embed_type") or config.get("class_embed_type"):
        return "it reads more than noise, time and the tokens of a text"
    if not isinstance(config.get("cross_attention_dim"), int):
        return "its blocks read texts of different widths"
    return None


FAMILIES: dict[str, Family] = {
    "FluxTransformer2DModel": Family(
        flux,
        lambda config: config["joint_attention_dim"],
        lambda config: config["pooled_projection_dim"],
        "DiffusersFlow",
        "time_text_embed.timestep_embedder",
        "proj_out",
    ),
    "Lumina2Transformer2DModel": Family(
        lumina,
        lambda config: config["cap_feat_dim"],
        lambda _: 0,
        "Velocity",
        "time_caption_embed.timestep_embedder",
        "norm_out.linear_2",
    ),
    "PixArtTransformer2DModel": Family(
        pixart,
        lambda config: config["caption_channels"],
        lambda _: 0,
        None,
        "adaln_single.emb.timestep_embedder",
        "proj_out",
    ),
    "SD3Transformer2DModel": Family(
        sd3,
        lambda config: config["joint_attention_dim"],
        lambda config: config["pooled_projection_dim"],
        "DiffusersFlow",
        "time_text_embed.timestep_embedder",
        "proj_out",
    ),
    "SanaTransformer2DModel": Family(
        sana,
        lambda config: config["caption_channels"],
        lambda _: 0,
        "DiffusersFlow",
        "time_embed.emb.timestep_embedder",
        "proj_out",
        lambda config: (
            "it is distilled in the trigonometric form" if config.get("guidance_embeds") else None
        ),
    ),
    "UNet2DConditionModel": Family(
        unet,
        lambda config: config["cross_attention_dim"],
        lambda _: 0,
        None,
        "time_embedding",
        "conv_out",
        _unet_refused,
    ),
}
"""By the names of their classes."""


def _steps(given: Given) -> Tensor:
    """Steps of noise, counted from 0 at the data; whole where the time says a whole number."""
    steps = ((1 - given.t) * given.num_steps - 1).clamp(min=0)
    whole = steps.round()
    return torch.where((steps - whole).abs() < _CLOSE, whole, steps)
