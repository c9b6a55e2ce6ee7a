"""Which conditions of a data set a model takes, and what makes them, written into the config."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from flowgen.cli.build import make
from flowgen.core import InputError
from flowgen.data import DataSet
from flowgen.models import CAPTION, PROMPT, Conditioner, check_range

_EXAMPLES = 64
"""Rows of the data whose conditions samples take in turn where nothing is asked for."""


def fill_conditions(cfg: DictConfig, data: DataSet) -> None:
    """Write the conditions that the model takes into ``cfg.facts`` and ``cfg.pipeline``.

    Args:
        cfg: Of a training; ``conditional`` is null for all that the data have and the network
            reads, true for the same and one at least, false for none, or a list of names.
        data: Its data.

    Raises:
        InputError: If the data do not have what is asked for.
    """
    classes = classes_of(data)
    kinds = _wanted(cfg, data, [*classes, *([PROMPT] if captions_of(data) else [])])
    own = {kind: classes[kind] for kind in kinds if kind in classes}
    label_alone = kinds == ["label"]
    counts = {kind: len(names) for kind, names in own.items()}
    with open_dict(cfg):
        cfg.facts.num_classes = (counts["label"] if label_alone else counts) if own else None
        cfg.facts.label_names = list(own["label"]) if "label" in own and data.label_names else None
        cfg.facts.text_width = None
        if PROMPT in kinds:
            cfg.facts.text_width = make(cfg.text_encoder, "text_encoder").width
        if not kinds:
            cfg.pipeline.conditioner = None
        elif not label_alone:
            cfg.pipeline.conditioner = _several(cfg, data, kinds, own)
        if cfg.get("guidance_range") is not None:
            low, high = check_range(cfg.guidance_range)
            base = cfg.pipeline.conditioner
            cfg.pipeline.conditioner = {
                "_target_": "flowgen.models.ScaleConditioner",
                "base": None if base is None else OmegaConf.to_container(base),
                "low": low,
                "high": high,
            }


def use_data(conditioner: Conditioner | None, data: DataSet) -> None:
    """Let a conditioner know the captions of a data set.

    Raises:
        InputError: If it reads text and the data have no captions.
    """
    if conditioner is not None:
        conditioner.use(captions_of(data))


def classes_of(data: DataSet) -> dict[str, list[str]]:
    """Return the names of the classes of each kind that a data set has, its labels first."""
    names = data.label_names or [str(i) for i in range(data.num_classes or 0)]
    labels = {"label": list(names)} if data.num_classes is not None else {}
    others = getattr(data, "classes", {})
    return labels | {kind: list(own) for kind, own in others.items()}


def captions_of(data: DataSet) -> tuple[str, ...] | None:
    """Return the captions that batches of a data set name by numbers, None if it has none."""
    return getattr(data, "captions", None)


def _wanted(cfg: DictConfig, data: DataSet, available: list[str]) -> list[str]:
    asked = cfg.conditional
    reads_text = "text_width" in cfg.model
    if asked is False:
        return []
    if isinstance(asked, ListConfig):
        kinds = list(asked)
        if unknown := [kind for kind in kinds if kind not in available]:
            raise InputError(
                f"conditional={kinds}: {data.name} has no {', '.join(map(str, unknown))}; it has "
                f"{', '.join(available) or 'no conditions'}"
            )
        if PROMPT in kinds and not reads_text:
            raise InputError(
                "conditional names prompt, and this model reads no text: use model=dit"
            )
        return [kind for kind in available if kind in kinds]
    if asked and not available:
        raise InputError(f"conditional=true needs labels, and {data.name} has none")
    return [kind for kind in available if kind != PROMPT or reads_text]


def _several(
    cfg: DictConfig, data: DataSet, kinds: list[str], classes: dict[str, list[str]]
) -> dict[str, Any]:
    dropout = float(cfg.label_dropout)
    parts: dict[str, Any] = {}
    for kind in kinds:
        if kind == PROMPT:
            parts[kind] = {
                "_target_": "flowgen.models.TextConditioner",
                "encoder": OmegaConf.to_container(cfg.text_encoder, resolve=True),
                "length": cfg.text_length,
                "dropout": dropout,
            }
        else:
            parts[kind] = {
                "_target_": "flowgen.models.LabelConditioner",
                "num_classes": len(classes[kind]),
                "dropout": dropout,
                "names": classes[kind],
                "kind": kind,
            }
    return {
        "_target_": "flowgen.models.Conditioners",
        "parts": parts,
        "dropout": dropout,
        "examples": _examples(data, kinds),
    }


def _examples(data: DataSet, kinds: list[str]) -> list[dict[str, Any]]:
    """Return the conditions of some training rows, far from each other."""
    total = len(data.train)
    places = sorted({round(i * (total - 1) / (_EXAMPLES - 1)) for i in range(_EXAMPLES)})
    batch = data.train.__getitems__(places)
    captions = captions_of(data) or ()
    rows = []
    for row in range(len(places)):
        entry: dict[str, Any] = {}
        for kind in kinds:
            number = int(batch[CAPTION if kind == PROMPT else kind][row])
            entry[kind] = captions[number] if kind == PROMPT else number
        rows.append(entry)
    return rows
