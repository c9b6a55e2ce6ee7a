"""Fine-tuning: a run that starts from a pretrained pipeline of diffusers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from flowgen.core import InputError
from flowgen.models.adapters import beside_adapter
from flowgen.training import FlowModule
from flowgen.training.state import start_from

if TYPE_CHECKING:
    from flowgen.pipeline.pretrained import Pretrained

TAKEN = ("path", "prediction", "text_encoder")
"""Settings that a fine-tuned model has from the pretrained one."""

_NETWORK = "network.network."


def fill_pretrained(cfg: DictConfig, overrides: Sequence[Any]) -> "Pretrained | None":
    """Write what the pretrained model says of itself into ``cfg``.

    Args:
        cfg: Of a training; ``model.path`` names a pipeline, if the model is one.
        overrides: Those of the user, parsed.

    Returns:
        The pretrained model; None if the run has none.

    Raises:
        InputError: If it cannot be used, or the user sets what it says itself.
    """
    place = cfg.model.get("path")
    if place is None:
        return None
    from flowgen.pipeline.pretrained import read_pretrained

    set_by_user = {override.get_key_element().split("@")[0] for override in overrides}
    for key in sorted(set_by_user):
        if key.split(".")[0] in TAKEN:
            raise InputError(f"{key} cannot be set: a fine-tuned model has it from {place}")
    length = cfg.text_length if "text_length" in set_by_user else None
    found = read_pretrained(str(place), text_length=length, guidance=cfg.model.guidance)
    own: dict[str, Any] = OmegaConf.to_container(cfg.model, resolve=False)  # pyright: ignore[reportAssignmentType]
    del own["path"]
    field, text = found.config["field"], _text(found.config)
    with open_dict(cfg):
        # Settings of the network are data: an interpolation in them would be the file's.
        cfg.model = {**field["network"], **own}
        cfg.path, cfg.prediction = field["path"], field["prediction"]
        cfg.text_encoder, cfg.text_length = text["encoder"], text["length"]
        if not any(key.split(".")[0] == "sampler" for key in set_by_user):
            cfg.sampler = found.config["sampler"]
        if cfg.conditional is None:
            cfg.conditional = ["prompt"]
    return found


def check_latents(cfg: DictConfig, pretrained: "Pretrained") -> None:
    """Raise unless the data are latents as the pretrained model knows them.

    Raises:
        InputError: Saying how to make them.
    """
    wanted: Mapping[str, Any] = pretrained.config["codec"]
    facts: dict[str, Any] = OmegaConf.to_container(cfg.facts)  # pyright: ignore[reportAssignmentType]
    found = facts["codec"]
    if any(found.get(key) != wanted[key] for key in ("digest", "mean", "std")):
        encoder = _text(pretrained.config)["encoder"]["path"]
        raise InputError(
            "a pretrained model learns from latents of its own autoencoder, in its own scale: "
            f"flowgen encode data=... autoencoder={encoder} scaling=autoencoder, then data=latents"
        )


def start_pretrained(flow: FlowModule, pretrained: "Pretrained") -> None:
    """Give a new run the pretrained weights.

    Raises:
        InputError: If they do not fit the network.
    """
    given = {f"{_NETWORK}{name}": value for name, value in pretrained.weights.items()}
    start = beside_adapter(flow.pipeline.field.state_dict(), given)
    start_from(flow, start, start)


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config["conditioner"]["parts"]["prompt"]
