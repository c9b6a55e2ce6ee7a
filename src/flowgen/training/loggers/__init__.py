"""Loggers: ``metrics.csv`` always, others by choice; none of them can stop a run."""

from collections.abc import Sequence
from pathlib import Path

from flowgen.training.loggers.guarded import Guarded, Service
from flowgen.training.loggers.metrics_file import MetricsFile
from flowgen.training.loggers.show import (
    Table,
    log_figures,
    resume_at,
    show_picture,
    show_table,
)
from flowgen.training.loggers.tensorboard_service import TensorBoardService
from flowgen.training.loggers.wandb_service import MODES, WandbService

__all__ = [
    "MODES",
    "Guarded",
    "MetricsFile",
    "Service",
    "Table",
    "TensorBoardService",
    "WandbService",
    "log_figures",
    "resume_at",
    "show_picture",
    "show_table",
    "tensorboard",
    "wandb",
]


def wandb(
    folder: str | Path,
    *,
    project: str = "flowgen",
    entity: str | None = None,
    name: str | None = None,
    group: str | None = None,
    job_type: str | None = "train",
    tags: Sequence[str] = (),
    mode: str = "auto",
    patience: float = 12.0,
) -> Guarded:
    """Return a logger to Weights & Biases that goes offline rather than stop or delay a run.

    Args:
        folder: The run folder; files go to ``<folder>/wandb``.
        project: Project of the run.
        entity: User or team; None is the default of the key.
        name: Display name; None takes the run folder's.
        group: Runs to show together, or None.
        job_type: What this process does, or None.
        tags: Tags of the run.
        mode: ``auto``, ``online``, ``offline`` or ``disabled``.
        patience: Most seconds that the service may hold up the run, in all.

    Raises:
        InputError: If ``mode`` is not one of :data:`MODES`, ``patience`` is not positive, or the
            client is not installed.
    """
    service = WandbService(
        Path(folder),
        project=project,
        entity=entity,
        name=name,
        group=group,
        job_type=job_type,
        tags=tags,
        mode=mode,
        finish_seconds=patience / 3,
    )
    return Guarded(service, folder, patience=patience)


def tensorboard(folder: str | Path, *, patience: float = 12.0) -> Guarded:
    """Return a logger that writes ``<folder>/tensorboard``.

    Args:
        folder: The run folder.
        patience: Most seconds that a hanging disk may hold up the run, in all.

    Raises:
        InputError: If ``patience`` is not positive, or TensorBoard is not installed.
    """
    return Guarded(TensorBoardService(Path(folder)), folder, patience=patience)
