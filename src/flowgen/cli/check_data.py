"""``flowgen check-data``: count a data set, look at it and name what is wrong."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from flowgen.cli.console import say

if TYPE_CHECKING:
    from flowgen.data import DataSet, Split

_MOST = 12
"""Classes that are listed by name."""


def run(cfg: DictConfig) -> Path:
    """Check as ``cfg`` says and return the picture.

    Args:
        cfg: The composed config of ``configs/check_data.yaml``.

    Raises:
        InputError: If the data cannot be read, naming the files, or a number is out of range.
    """
    import torch

    from flowgen.cli.assemble import data_set
    from flowgen.core import InputError, generator_for
    from flowgen.pipeline.outputs import writer

    for name in ("num_shown", "columns"):
        if cfg[name] < 1:
            raise InputError(f"{name} must be >= 1, got {cfg[name]}")
    data = data_set(cfg.data)
    out = Path(cfg.out).expanduser() if cfg.out else Path(f"data_{data.name}.png")
    if out.suffix != ".png":
        raise InputError(f"out={out}: the picture is written as .png")
    for line in told(data):
        say(line)
    order = torch.randperm(len(data.train), generator=generator_for(cfg.seed))
    shown = data.train.__getitems__(sorted(order[: cfg.num_shown].tolist()))["x_1"]
    writer(out, columns=cfg.columns)(shown, None)
    say(f"picture of {len(shown)} training samples: {out}")
    return out


def told(data: "DataSet") -> Iterator[str]:
    """Yield what there is to say of a data set, line by line."""
    from flowgen.cli.conditions import captions_of, classes_of

    train, test = _whole(data.train), _whole(data.test)
    yield (
        f"{data.name}: {len(data.train)} for training, {len(data.test)} held out, "
        f"shape {tuple(data.shape)}"
    )
    x = train["x_1"]
    values = x.float()
    yield f"values: {values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}"
    for kind, names in classes_of(data).items():
        yield from _classes(kind, names, train[kind].tolist(), test[kind].tolist())
    captions = captions_of(data)
    if captions:
        yield from _captions(captions, train["caption"].tolist() + test["caption"].tolist())
    twice = len(x) - len(x.flatten(1).unique(dim=0))
    yield f"training samples that are there twice: {twice}" + (
        " (a model learns them by heart first)" if twice else ""
    )


def _whole(split: "Split") -> dict:
    restart = getattr(split, "seed_augmentation", None)
    if restart is not None:
        restart(0)
    return split.__getitems__(list(range(len(split))))


def _classes(
    kind: str, names: Sequence[str], train: Sequence[int], test: Sequence[int]
) -> Iterator[str]:
    counts, held = Counter(train), Counter(test)
    listed = [f"{names[i]} {counts[i]}+{held[i]}" for i in range(min(len(names), _MOST))]
    more = f", and {len(names) - _MOST} more" if len(names) > _MOST else ""
    yield f"{kind}: {len(names)} (training+held out): {', '.join(listed)}{more}"
    rare = [names[i] for i in range(len(names)) if counts[i] < 10]
    if rare:
        yield f"warning: {kind}s with less than 10 training samples: {', '.join(rare[:_MOST])}"


def _captions(captions: Sequence[str], numbers: Sequence[int]) -> Iterator[str]:
    lengths = [len(captions[i].split()) for i in numbers]
    used = {captions[i] for i in numbers}
    yield (
        f"captions: {len(used)} different ones, {min(lengths)} to {max(lengths)} words, "
        f"{sum(lengths) / len(lengths):.1f} on average"
    )
    if empty := sum(length == 0 for length in lengths):
        yield f"warning: {empty} samples have no caption"
