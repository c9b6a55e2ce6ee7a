"""Whether what is asked for is still the same run.

``resume=<run folder>`` takes the config of that run; an override is refused if it would make it
another run.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from flowgen.cli.automatic import CHOICES
from flowgen.cli.console import say
from flowgen.core import InputError
from flowgen.training.run_record import read_record

FREE = (
    *("run_dir", "resume", "logger", "callbacks", "threads", "debug"),
    *("data.num_workers", "trainer.accelerator", "trainer.devices", "trainer.num_nodes"),
    "trainer.strategy",
)
"""Settings of this machine and of what is written, which leave a run what it is."""

LENGTH = "trainer.max_steps"
"""The one setting that may change what a run is: how long it goes on."""

_ABSENT = object()


def config_of_run(cfg: DictConfig, overrides: list[Any]) -> DictConfig:
    """Return the config of the run ``cfg.resume`` with the overrides that leave it the same run.

    Args:
        cfg: The composed config, with the overrides in it.
        overrides: Hydra's parsed overrides of the command line.

    Raises:
        InputError: If there is no such run, or an override would change it.
    """
    folder = Path(cfg.resume).expanduser()
    file = folder / "config.yaml"
    if not file.is_file():
        raise InputError(f"resume={cfg.resume} is no run folder: it has no config.yaml")
    try:
        run = OmegaConf.load(file)
    except Exception as error:
        raise InputError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(run, DictConfig) or not isinstance(run.get("facts"), DictConfig):
        raise InputError(f"{file} is not the config of a run")
    before = str(run.get("run_dir"))
    with open_dict(cfg):
        cfg.facts, cfg.name, cfg.run_dir = run.facts, run.get("name"), str(folder)
    for key in cfg:
        if key not in run:
            run[key] = cfg[key]
    for group in ("callbacks", "logger"):
        _replace(run.get(group), before, str(folder))
    for override in overrides:
        _apply(override, cfg, run, read_record(folder))
    run.run_dir, run.resume = str(folder), str(folder)
    return run


def first_difference(one: DictConfig, other: DictConfig) -> str | None:
    """Return the first setting that makes two configs different runs, None if they are one.

    Args:
        one: The config that is asked for; what it leaves to flowgen to decide is no difference.
        other: That of a run.
    """
    a, b = dict(_settings(one)), dict(_settings(other))
    # What was decided for the run holds for whoever leaves the decision open.
    left_open = [key for key in CHOICES if a.get(key, _ABSENT) is None]
    a, b = ({key: value for key, value in each.items() if key not in left_open} for each in (a, b))
    # Others follow from the length, and would puzzle.
    keys = [LENGTH, *a, *b]
    return next((key for key in keys if a.get(key, _ABSENT) != b.get(key, _ABSENT)), None)


def _apply(override: Any, cfg: DictConfig, run: DictConfig, record: Mapping[str, Any]) -> None:
    """Take one override over into the config of the run, or refuse it."""
    key = str(override.package or override.key_or_group).replace("/", ".")
    if key in ("resume", "run_dir") or override.is_hydra_override():
        return
    if key == "experiment":
        wanted, had = override.value(), record.get("experiment")
        if had not in (None, wanted):
            raise InputError(f"experiment={wanted} would change the run, which is of {had}")
        return
    wanted, had = _plain(cfg, key), _plain(run, key)
    if key == LENGTH and wanted != had:
        for name in _references(OmegaConf.to_container(cfg, resolve=False), f"${{{LENGTH}}}"):
            if _plain(run, name) == had:
                OmegaConf.update(run, name, wanted)
        OmegaConf.update(run, key, wanted)
        say(f"the run now ends at step {wanted}, not {had}, and its learning rate follows")
    elif _is_free(key):
        if wanted is _ABSENT:
            parent, _, name = key.rpartition(".")
            (OmegaConf.select(run, parent) or run).pop(name, None)
        else:
            with open_dict(run):
                OmegaConf.update(run, key, wanted, merge=False, force_add=True)
    elif wanted != had:
        raise InputError(
            f"{key} would change the run: resume={cfg.resume} goes on with its own settings. Leave "
            f"it out, or start a new run from the weights with checkpoint={cfg.resume}"
        )


def _settings(cfg: DictConfig) -> Iterator[tuple[str, Any]]:
    # Written and read, as numbers change their form on the way.
    read = OmegaConf.create(OmegaConf.to_yaml(cfg, resolve=True))
    for key, value in _leaves(OmegaConf.to_container(read)):
        if not _is_free(key):
            yield key, value


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node


def _is_free(key: str) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in FREE)


def _references(node: Any, text: str, prefix: str = "") -> Iterator[str]:
    """Yield the keys whose value is nothing but the interpolation ``text``."""
    for key, value in _leaves(node, prefix):
        if value == text:
            yield key


def _plain(cfg: DictConfig, key: str) -> Any:
    """The resolved value of a key, or a mark that there is none."""
    try:
        value = OmegaConf.select(cfg, key, default=_ABSENT)
    except OmegaConfBaseException:
        return _ABSENT
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=True)
    return value


def _replace(node: Any, before: str, after: str) -> None:
    """Let the strings that name the run folder name its present place."""
    if isinstance(node, DictConfig):
        for key in node:
            if node[key] == before:
                node[key] = after
            _replace(node[key], before, after)
