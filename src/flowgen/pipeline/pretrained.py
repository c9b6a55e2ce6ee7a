"""A pretrained pipeline of diffusers as one of ours: its network, path, autoencoder and text.

Its folder says everything: the network its class, the scheduler how noise was added and how steps
are shifted, the autoencoder the scale of its latents. Times, signs and predictions are brought into
our convention, so that sampling, fine-tuning, distillation, editing and export work as for a model
that was trained here.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.data.autoencoder import digest_of, own_scaling, read_autoencoder
from flowgen.models.diffusers_families import FAMILIES
from flowgen.models.diffusers_network import family_of
from flowgen.pipeline.build import build
from flowgen.pipeline.pipeline import Pipeline
from flowgen.pipeline.score import KEY as SCORE_KEY

_PREDICTIONS = {"epsilon": "Noise", "v_prediction": "SalimansV", "sample": "Data"}
_MOST_TOKENS = {"FluxTransformer2DModel": 512, "UNet2DConditionModel": 77}
_TOKENS = 256
_SIDE = 128  # of latents, where a network does not say its own


class Pretrained(NamedTuple):
    """A pretrained pipeline read from its folder.

    ``config`` is the plain config of our :class:`Pipeline`, ``weights`` are those of the network.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]
    autoencoder: Any


def wrap(
    path: str,
    *,
    size: int | None = None,
    text_length: int | None = None,
    guidance: float | None = None,
) -> Pipeline:
    """Return a pretrained pipeline of diffusers as a pipeline that samples, on the CPU.

    Args:
        path: Its folder, or its name on the hub.
        size: Side of the images in pixels; None takes what the network was trained on.
        text_length: Most tokens of a prompt; None takes what its own pipeline takes.
        guidance: Scale that a guidance-distilled network is told (not classifier-free guidance).

    Raises:
        InputError: If there is none, a part is of an unknown kind, or ``size`` does not fit.
    """
    found = read_pretrained(path, size=size, text_length=text_length, guidance=guidance)
    pipeline = build(found.config, trust_code=True)
    assert isinstance(pipeline, Pipeline)
    network: Any = pipeline.field.network
    network.network.load_state_dict(found.weights)
    codec: Any = pipeline.codec
    codec.network.load_state_dict(found.autoencoder.state_dict())
    pipeline.config = found.config
    pipeline.about = {"name": Path(path).name, SCORE_KEY: True}
    return pipeline.eval()


def read_pretrained(
    path: str,
    *,
    size: int | None = None,
    text_length: int | None = None,
    guidance: float | None = None,
) -> Pretrained:
    """Return config, weights and autoencoder of a pretrained pipeline; see :func:`wrap`."""
    network, settings, scheduler = _network(path)
    kind, family = family_of(settings)
    autoencoder, own = read_autoencoder(path)
    factor = _factor(own)
    side = int(settings.get("sample_size") or _SIDE) if size is None else size // factor
    if size is not None and (size < factor or size % (2 * factor)):
        raise InputError(f"size must be a multiple of {2 * factor} pixels, got {size}")
    channels = int(own["latent_channels"])
    latent, image = [channels, side, side], [int(own["in_channels"]), side * factor, side * factor]
    mean, std = own_scaling(own)
    length = text_length or _MOST_TOKENS.get(kind, _TOKENS)
    width = int(family.text_width(settings))
    way = _flow(scheduler, latent) if family.answers else _diffusion(scheduler)
    prediction = family.answers or _PREDICTIONS[scheduler.get("prediction_type", "epsilon")]
    text = {
        "_target_": "flowgen.models.TextConditioner",
        "encoder": {
            "_target_": "flowgen.text.DiffusersPrompt",
            "path": str(path),
            "width": width,
            "cache": None,
        },
        "length": int(length),
        "dropout": 0.1,
    }
    config = {
        "_target_": "flowgen.pipeline.Pipeline",
        "field": {
            "_target_": "flowgen.models.PredictionField",
            "network": {
                "_target_": "flowgen.models.DiffusersNetwork",
                "shape": latent,
                "settings": {**settings, "_class_name": kind},
                "text_width": width,
                "num_train_timesteps": int(scheduler.get("num_train_timesteps", 1000)),
                "guidance": guidance,
            },
            "path": {"_target_": "flowgen.paths.AffinePath", "schedule": way["schedule"]},
            "prediction": {"_target_": f"flowgen.paths.{prediction}"},
            "data_std": None,
            "t_eps": 1e-3,
        },
        "source": {"_target_": "flowgen.data.Gaussian", "shape": latent, "std": 1.0},
        "sampler": way["sampler"],
        "codec": {
            "_target_": "flowgen.data.LatentCodec",
            "autoencoder": own,
            "image_shape": image,
            "latent_shape": latent,
            "mean": [mean] * channels,
            "std": [std] * channels,
            "digest": digest_of(own, autoencoder),
        },
        "conditioner": {
            "_target_": "flowgen.models.Conditioners",
            "parts": {"prompt": text},
            "dropout": 0.1,
            "examples": [{"prompt": ""}],
        },
    }
    return Pretrained(config, dict(network.state_dict()), autoencoder)


def _network(path: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the network of a pipeline, its settings, and those of its scheduler."""
    import diffusers

    try:
        index: Any = diffusers.DiffusionPipeline.load_config(path)
        part = "transformer" if "transformer" in index else "unet"
        kind = index[part][1] if part in index else None
        if kind not in FAMILIES:
            raise InputError(
                f"'{path}' holds {'a ' + kind if kind else 'no transformer or U-Net'}: a network "
                f"of diffusers must be one of {', '.join(FAMILIES)}"
            )
        network = getattr(diffusers, kind).from_pretrained(
            path, subfolder=part, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
        name = index["scheduler"][1]
        scheduler: Any = getattr(diffusers, name).load_config(path, subfolder="scheduler")
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"no pipeline of diffusers at '{path}': {line}") from error
    # Through JSON: tuples become the lists that a stored config knows.
    plain = json.loads(json.dumps(dict(network.config), default=str))
    settings = {key: value for key, value in plain.items() if not key.startswith("_")}
    return network, {**settings, "_class_name": kind}, {**scheduler, "_class_name": name}


def _flow(scheduler: Mapping[str, Any], latent: list[int]) -> dict[str, Any]:
    """The straight path, and Euler's steps shifted as the scheduler shifts them."""
    shift = float(scheduler.get("flow_shift") or scheduler.get("shift") or 1.0)
    if scheduler.get("use_dynamic_shifting"):
        tokens = (latent[1] // 2) * (latent[2] // 2)
        low, high = scheduler["base_image_seq_len"], scheduler["max_image_seq_len"]
        slope = (scheduler["max_shift"] - scheduler["base_shift"]) / (high - low)
        mu = scheduler["base_shift"] + slope * (tokens - low)
        shift = mu if scheduler.get("time_shift_type") == "linear" else math.exp(mu)
    sampler = {
        "_target_": "flowgen.integrators.Sampler",
        "stepper": {"_target_": "flowgen.integrators.Euler"},
        "grid": {"_target_": "flowgen.integrators.Shifted", "shift": shift, "terminal": None},
        "num_steps": 28,
    }
    return {"schedule": {"_target_": "flowgen.paths.Linear"}, "sampler": sampler}


def _diffusion(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """The path of the steps of noise that a diffusion model was trained on, and DDIM."""
    kind = scheduler.get("prediction_type", "epsilon")
    if kind not in _PREDICTIONS:
        raise InputError(
            f"its scheduler predicts {kind}, which is none of {', '.join(_PREDICTIONS)}"
        )
    for key in ("trained_betas", "rescale_betas_zero_snr"):
        if scheduler.get(key):
            raise InputError(f"a scheduler with {key} cannot be used: its path has no known form")
    schedule = {
        "_target_": "flowgen.paths.DiscreteDiffusion",
        "num_steps": int(scheduler["num_train_timesteps"]),
        "betas": scheduler["beta_schedule"],
        "beta_start": float(scheduler["beta_start"]),
        "beta_end": float(scheduler["beta_end"]),
    }
    sampler = {
        "_target_": "flowgen.integrators.Sampler",
        "stepper": {"_target_": "flowgen.integrators.DDIM"},
        "grid": {"_target_": "flowgen.integrators.Uniform"},
        "num_steps": 50,
    }
    return {"schedule": schedule, "sampler": sampler}


def _factor(autoencoder: Mapping[str, Any]) -> int:
    """Pixels on the side of one latent."""
    for key in ("encoder_block_out_channels", "block_out_channels"):
        if autoencoder.get(key):
            return 2 ** (len(autoencoder[key]) - 1)
    raise InputError(f"the scale of an {autoencoder['_class_name']} is not known")
