"""One session of a run: its files before the first step, and in ``run.json`` how it ended."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say
from flowgen.core import InputError, TrainingFailedError
from flowgen.pipeline import atomic
from flowgen.pipeline.checkpoint import LAST
from flowgen.training import Report, RunRecord, StopRequested
from flowgen.training.interruption import ANNOUNCED
from flowgen.training.run_record import device_name


@contextmanager
def session(
    cfg: DictConfig, trainer: Trainer, overrides: Sequence[Any], *, from_step: int
) -> Iterator[None]:
    """Write config and record of a run, train inside, record how it ended, renew its report.

    Args:
        cfg: The complete config.
        trainer: That will train.
        overrides: Parsed overrides of the command line.
        from_step: Steps taken before.

    Raises:
        InputError: If the run folder cannot be written.
        SystemExit: If a signal ended the training, with 128 + its number, from the first process.
    """
    folder = Path(cfg.run_dir)
    record = _open(cfg, folder, trainer, overrides, from_step) if trainer.is_global_zero else None
    try:
        yield
    except StopRequested as stop:
        if record is None:
            return
        record.end("interrupted", trainer.global_step, str(stop))
        say(f"\nstopped by {stop} after step {trainer.global_step}")
        if (folder / LAST).is_file():
            say(f"go on with: flowgen train resume={folder}")
        if stop.signum in ANNOUNCED and callable(signal.getsignal(stop.signum)):
            # Who handled it before the run, such as submitit, puts the job back into the queue.
            signal.raise_signal(stop.signum)
        raise SystemExit(128 + stop.signum) from None
    except BaseException as error:
        if record is not None:
            reason = " ".join(str(error).split())[:500]
            record.end(_status(error), trainer.global_step, reason or type(error).__name__)
        raise
    else:
        if record is not None:
            record.end("finished", trainer.global_step)
    finally:
        if record is not None:
            _last_report(trainer)


def _last_report(trainer: Trainer) -> None:
    """Let the page of the run tell how it ended, as the record now does."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, Report):
            callback.finish()


def _status(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted"
    return "stopped" if isinstance(error, TrainingFailedError) else "failed"


def _open(
    cfg: DictConfig, folder: Path, trainer: Trainer, overrides: Sequence[Any], from_step: int
) -> RunRecord:
    facts = {
        "command": _command(overrides),
        "overrides": [override.input_line for override in overrides],
        "experiment": _experiment(),
        "device": device_name(trainer.strategy.root_device),
        "processes": trainer.world_size,
        "seed": cfg.seed,
        "max_steps": cfg.trainer.max_steps,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record = RunRecord(folder, facts, from_step=from_step)
        with atomic(folder / "config.yaml") as temporary:
            OmegaConf.save(OmegaConf.to_container(cfg, resolve=True), temporary)
    except OSError as error:
        raise InputError(
            f"cannot write to the run folder {folder}: {error.strerror or error}"
        ) from error
    return record


def _command(overrides: Sequence[Any]) -> list[str]:
    """Return the command line of this job, as it can be typed again."""
    name = Path(sys.argv[0]).name
    if name == "train.py":
        return ["flowgen", "train", *sys.argv[1:]]
    if sys.argv[1:2] == ["train"]:
        return ["flowgen", *sys.argv[1:]]
    return ["flowgen", "train", *(override.input_line for override in overrides)]


def _experiment() -> str | None:
    if not HydraConfig.initialized():
        return None
    chosen = HydraConfig.get().runtime.choices.get("experiment")
    return None if chosen in (None, "null") else str(chosen)
