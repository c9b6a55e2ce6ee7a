"""Low-rank adapters (LoRA) of the networks of diffusers, by the library peft.

The network's own weights stand still and small ones beside its linear layers learn:
``y = W x + (alpha / rank) B A x``, where ``B`` starts at zero, so that nothing changes at first.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from flowgen.core import InputError
from flowgen.models.checks import check_positive

_OWN = ".base_layer"


def add_adapter(network: Any, *, rank: int, alpha: float, targets: Sequence[str]) -> None:
    """Give a network of diffusers an adapter, and let nothing else of it learn.

    Args:
        network: A module of diffusers.
        rank: Of the change of each layer, at least 1.
        alpha: The change is scaled by ``alpha / rank``; above 0.
        targets: Ends of the names of the layers that are changed, e.g. ``to_q``.

    Raises:
        InputError: If peft is missing, a number leaves its range, or no layer has such a name.

    Source: Hu et al. 2021, arXiv 2106.09685, eq. 3.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise InputError("adapters need peft: pip install 'flowgen[lora]'") from error
    check_positive(rank=rank)
    if not 0 < alpha < math.inf:
        raise InputError(f"alpha must be finite and > 0, got {alpha}")
    network.requires_grad_(False)
    settings = LoraConfig(
        r=int(rank),
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]
        target_modules=list(targets),
        init_lora_weights=True,
    )
    try:
        network.add_adapter(settings)
    except ValueError as error:
        raise InputError(f"targets {list(targets)}: {str(error).splitlines()[0]}") from error


def has_adapter(network: Any) -> bool:
    """Return whether a network has an adapter."""
    return bool(getattr(network, "_hf_peft_config_loaded", False))


def adapter_weights(network: Any) -> dict[str, Tensor]:
    """Return the weights of the adapter alone, by the names that diffusers reads."""
    from peft.utils import get_peft_model_state_dict

    return dict(get_peft_model_state_dict(network))


def beside_adapter(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a network without an adapter, named as in one that has it.

    Args:
        own: The state of the network with the adapter, whose own weights stay.
        given: Those of the network without it.
    """
    names = {name.replace(_OWN, ""): name for name in own}
    return {**own, **{names.get(name, name): value for name, value in given.items()}}
