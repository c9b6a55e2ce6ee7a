"""Where a training computes: on a CPU or not, alone or beside other processes."""

import os

import torch
from omegaconf import DictConfig


def on_cpu(accelerator: str) -> bool:
    """Return whether an accelerator of Lightning's is the CPU of this machine."""
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return accelerator == "cpu" or (accelerator == "auto" and not gpu)


def alone(trainer: DictConfig) -> bool:
    """Return whether one process trains; several would have to agree on what they measure."""
    return (
        processes() == 1
        and trainer.devices in (1, "1", "auto")
        and trainer.get("num_nodes", 1) == 1
    )


def processes() -> int:
    """Return the number of processes that were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
