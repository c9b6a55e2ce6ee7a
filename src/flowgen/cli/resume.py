"""Which run a training goes on with, and from where.

``resume=<run folder>`` names it; ``resume=auto`` looks for an unfinished run with the config that
was asked for.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say
from flowgen.cli.same_run import first_difference
from flowgen.core import InputError
from flowgen.pipeline.checkpoint import LAST, read_training_checkpoint
from flowgen.pipeline.checkpoint.migrations import NewerFormatError, migrate
from flowgen.training.run_record import is_training, mark_finished, read_record
from flowgen.training.state import STATE

log = logging.getLogger(__name__)


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
