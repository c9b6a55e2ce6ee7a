"""Fine-tuned pipelines of diffusers, written as diffusers writes them.

A whole pipeline holds the fine-tuned network, an adapter merged into it, beside the other parts of
the one it came from; an adapter alone is a small file that ``load_lora_weights`` reads.
"""

import copy
from pathlib import Path
from typing import Any

from flowgen.core import InputError
from flowgen.models import DiffusersNetwork
from flowgen.models.adapters import adapter_weights, has_adapter
from flowgen.pipeline.export.sampling import Sampling, sampling_of
from flowgen.pipeline.pipeline import Pipeline
from flowgen.text.diffusers_prompt import kind_of

_LORA = "pytorch_lora_weights.safetensors"


def to_pretrained(pipeline: Pipeline, path: Path) -> Sampling:
    """Write a pipeline of diffusers with the fine-tuned network.

    Raises:
        InputError: If the model is not one of diffusers, or a flow map, which diffusers has not.
    """
    import diffusers

    network = _network(pipeline)
    if len(network.condition.embeddings):
        told = ", ".join(network.condition.embeddings)
        raise InputError(f"to=pretrained: diffusers has no network that is told its {told}")
    place = pipeline.config["conditioner"]["parts"]["prompt"]["encoder"]["path"]
    own: Any = copy.deepcopy(network.network)
    if has_adapter(own):
        own.fuse_lora()
        own.unload_lora()
    name = _part(own)
    parts = {name: own}
    whole: Any = diffusers.DiffusionPipeline.from_pretrained(place, **parts)
    whole.save_pretrained(path)
    again = copy.deepcopy(pipeline)
    read: Any = type(own).from_pretrained(path, subfolder=name)
    plain: Any = again.field.network
    plain.network = read.eval()
    return sampling_of(again)


def to_lora(pipeline: Pipeline, path: Path) -> Sampling:
    """Write the adapter alone.

    Raises:
        InputError: If the model has none, or its pipeline reads none.
    """
    import diffusers
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    network: Any = _network(pipeline).network
    if not has_adapter(network):
        raise InputError("to=lora: this model has no adapter; train one by model=diffusers_lora")
    kind = kind_of(pipeline.config["conditioner"]["parts"]["prompt"]["encoder"]["path"])
    writer = getattr(getattr(diffusers, kind), "save_lora_weights", None)
    if writer is None:
        raise InputError(f"to=lora: the {kind} of diffusers reads no adapters; use to=pretrained")
    part = _part(network)
    # A scale of its own, alpha / rank, stands in the file's header.
    scale = {f"{part}_lora_adapter_metadata": network.peft_config["default"].to_dict()}
    writer(path, **{f"{part}_lora_layers": adapter_weights(network)}, **scale)
    again = copy.deepcopy(pipeline)
    other: Any = again.field.network
    found = load_file(path / _LORA)
    read = {name.removeprefix(f"{part}."): value for name, value in found.items()}
    set_peft_model_state_dict(other.network, read)
    return sampling_of(again)


def _network(pipeline: Pipeline) -> DiffusersNetwork:
    network = pipeline.field.network
    if not isinstance(network, DiffusersNetwork):
        raise InputError(
            f"only networks of diffusers can be written so, and this is a {type(network).__name__}"
        )
    return network


def _part(network: Any) -> str:
    return "unet" if type(network).__name__.startswith("UNet") else "transformer"
