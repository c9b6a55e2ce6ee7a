"""Loggers. ``metrics.csv`` is always written; Weights & Biases never stops a run."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from flowgen.core import InputError
from flowgen.training.loggers.show import (
    Table,
    log_figures,
    resume_at,
    show_picture,
    show_table,
)

__all__ = [
    "MODES",
    "Table",
    "csv",
    "log_figures",
    "resume_at",
    "show_picture",
    "show_table",
    "wandb",
]

MODES = ("auto", "online", "offline", "disabled")
"""Ways of using Weights & Biases; ``auto`` is online where a key is set, else offline."""


def csv(folder: str | Path) -> CSVLogger:
    """Return the logger that writes ``<folder>/metrics.csv``."""
    folder = Path(folder)
    return CSVLogger(folder.parent, name=folder.name, version="", flush_logs_every_n_steps=1)


def wandb(
    folder: str | Path,
    *,
    project: str = "flowgen",
    name: str | None = None,
    tags: Sequence[str] = (),
    mode: str = "auto",
    init_timeout: float = 20.0,
) -> WandbLogger:
    """Return a Weights & Biases logger that falls back to offline.

    Args:
        folder: The run folder; files go to ``<folder>/wandb``.
        project: Project of the run.
        name: Display name; None takes the run folder's.
        tags: Tags of the run.
        mode: ``auto``, ``online``, ``offline`` or ``disabled``.
        init_timeout: Seconds to wait for the service before going offline.

    Raises:
        InputError: If ``mode`` is not one of :data:`MODES`.
    """
    if mode not in MODES:
        raise InputError(f"logger.mode must be one of {', '.join(MODES)}, got '{mode}'")
    folder = Path(folder)
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    if mode == "online":
        try:
            return _wandb(folder, project, name, tags, "online", init_timeout)
        except Exception as error:  # noqa: BLE001 - no fault of a logging service stops a run
            reason = " ".join(str(error).split())[:120]
            _tell(f"Weights & Biases cannot be reached ({reason}): logging offline")
            mode = "offline"
    logger = _wandb(folder, project, name, tags, mode, init_timeout)
    if mode == "offline" and getattr(rank_zero_only, "rank", 0) == 0:  # the others hold no run
        files = Path(logger.experiment.dir).parent
        _tell(f"Weights & Biases is offline; to upload: wandb sync {files}")
    return logger


@rank_zero_only
def _tell(message: str) -> None:
    # A logger of our own: the command line silences Lightning's below warnings.
    logging.getLogger(__name__).warning(message)


def _wandb(
    folder: Path, project: str, name: str | None, tags: Sequence[str], mode: str, timeout: float
) -> WandbLogger:
    import wandb as client

    options: dict[str, Any] = {
        "mode": mode,
        "tags": list(tags),
        "settings": client.Settings(init_timeout=timeout),
    }
    logger = WandbLogger(
        name=name or folder.name, save_dir=str(folder), project=project, log_model=False, **options
    )
    _ = logger.experiment
    return logger


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(errors="ignore")
