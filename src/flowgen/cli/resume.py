"""Which run a training goes on with, and whether what is asked for is still the same run.

``resume=<run folder>`` takes the config of that run; an override is refused if it would make it
another run. ``resume=auto`` looks for an unfinished run with the config that was asked for.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from flowgen.cli.automatic import CHOICES
from flowgen.cli.console import say
from flowgen.core import InputError
from flowgen.pipeline.checkpoint import LAST, read_training_checkpoint
from flowgen.pipeline.checkpoint.migrations import NewerFormatError, migrate
from flowgen.training.run_record import is_training, mark_finished, read_record
from flowgen.training.state import STATE

FREE = (
    *("run_dir", "resume", "logger", "callbacks", "threads", "debug"),
    *("data.num_workers", "trainer.accelerator", "trainer.devices", "trainer.num_nodes"),
    "trainer.strategy",
)
"""Settings of this machine and of what is written, which leave a run what it is."""

LENGTH = "trainer.max_steps"
"""The one setting that may change what a run is: how long it goes on."""

log = logging.getLogger(__name__)
_ABSENT = object()


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Args:
        folder: Of the run that goes on; None for a new one.
        content: Of the checkpoint it goes on from; None for a new run, and on processes other than
            the first.
        step: Steps taken so far.
        over: Whether the run has taken all its steps.
    """

    folder: Path | None = None
    content: Mapping[str, Any] | None = None
    step: int = 0
    over: bool = False


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


def resumed(folder: Path, max_steps: int, *, first: bool = True) -> Start:
    """Return the start of a given run, which goes on from its newest whole checkpoint.

    Args:
        folder: The run folder.
        max_steps: Steps it is to take in all.
        first: Whether this process reads; the others are told by it.

    Raises:
        InputError: If another process trains it, or no checkpoint can be used.
    """
    if not first:
        return Start(folder)
    if is_training(folder):
        owner = read_record(folder)["process"]
        raise InputError(
            f"{folder} is being trained by process {owner['pid']} on {owner['host']}: wait for it, "
            "or stop it first"
        )
    content = newest_checkpoint(folder)
    step = int(content["global_step"])
    if step >= max_steps:
        mark_finished(folder, step)
        return Start(folder, step=step, over=True)
    return Start(folder, content, step)


def automatic(cfg: DictConfig, *, first: bool = True) -> Start:
    """Return the start of ``resume=auto``: the newest unfinished run of this config, or a new one.

    With ``run_dir`` only that folder is looked at.

    Args:
        cfg: The complete config of the run that is asked for, except its folder.
        first: Whether this process decides; the others only learn whether there is nothing to do.

    Raises:
        InputError: If ``run_dir`` holds a run of another config, or one that is being trained.
    """
    given = None if cfg.run_dir is None else Path(cfg.run_dir).expanduser()
    if given is not None:
        if not (given / "config.yaml").is_file():
            return _new(first)
        difference = _difference(cfg, given)
        if difference:
            raise InputError(
                f"run_dir={given} holds another run, which differs in {difference}: give another "
                "folder"
            )
        if not _has_checkpoint(given):
            return Start(given)
        return _told(resumed(given, cfg.trainer.max_steps, first=first), first)
    over: Path | None = None
    for folder in _runs(cfg.name):
        difference = _difference(cfg, folder)
        finished = read_record(folder).get("status") == "finished"
        if difference or finished:
            over = over or (None if difference else folder)
            if first and not finished:
                say(f"resume=auto: {folder} is unfinished and differs in {difference}")
            continue
        if first and is_training(folder):
            say(f"resume=auto: {folder} is being trained by another process")
            continue
        if not _has_checkpoint(folder):
            continue
        return _told(resumed(folder, cfg.trainer.max_steps, first=first), first)
    if over is not None:
        return _told(Start(over, step=cfg.trainer.max_steps, over=True), first)
    return _new(first)


def newest_checkpoint(folder: Path) -> Mapping[str, Any]:
    """Return the content of the newest whole checkpoint; damaged ones before it are named.

    Raises:
        InputError: If there is none that a run can go on from.
    """
    last = folder / LAST
    copies = sorted(last.parent.glob("step_*.ckpt"), reverse=True)
    files = [path for path in (last, *copies) if path.is_file()]
    reasons: list[str] = []
    for path in files:
        try:
            content = migrate(read_training_checkpoint(path))
            if isinstance(content.get(STATE), Mapping):
                if reasons:
                    log.warning("going on from %s, as %s", path, "; ".join(reasons))
                return content
            reasons.append(f"{path.name} holds no state to go on from")
        except NewerFormatError as error:
            raise InputError(f"{path} {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reasons.append(" ".join(str(error).split()))
    if not files:
        raise InputError(f"{folder} has no checkpoint to go on from: start a new run")
    raise InputError(
        f"{folder} has no checkpoint to go on from ({'; '.join(reasons)}); to start a new run from "
        "weights, write checkpoint=<file>"
    )


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


def _told(start: Start, first: bool) -> Start:
    if first and start.over:
        say(
            f"resume=auto: {start.folder} has taken all its {start.step} steps: nothing to do. For "
            "a new run leave resume out"
        )
    return start


def _new(first: bool) -> Start:
    if first:
        say("resume=auto: no unfinished run of this config, so a new one starts")
    return Start()


def _runs(name: str) -> list[Path]:
    """The run folders of a name, the newest first."""

    def begun(folder: Path) -> tuple[str, str]:
        sessions = read_record(folder).get("sessions")
        first = sessions[0] if isinstance(sessions, list) and sessions else None
        return str(first.get("started")) if isinstance(first, dict) else "", folder.name

    found = [file.parent for file in (Path("runs") / name).glob("*/config.yaml")]
    return sorted(found, key=begun, reverse=True)


def _has_checkpoint(folder: Path) -> bool:
    return any((folder / LAST).parent.glob("*.ckpt"))


def _difference(cfg: DictConfig, folder: Path) -> str | None:
    try:
        run = OmegaConf.load(folder / "config.yaml")
    except Exception:  # noqa: BLE001 - a torn config is that of no run
        return "config.yaml, which cannot be read"
    return first_difference(cfg, run) if isinstance(run, DictConfig) else "config.yaml"


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
