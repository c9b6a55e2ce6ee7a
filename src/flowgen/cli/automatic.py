"""What flowgen decides where a setting is ``null``: arithmetic, compiling and threads.

The rules look at the kind of network and at the number of its floating-point operations, which are
the same everywhere; what the machine is good at comes second. What was decided is written into the
config of the run, and a run goes on with it wherever that is.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flowgen.cli.compiling import can_compile
from flowgen.cli.placement import alone, on_cpu, processes
from flowgen.core import FlowMap, InputError, cpu_prefers_bfloat16
from flowgen.models import DiT, MMDiT, UNet, UNet2D, UViT
from flowgen.pipeline import Pipeline
from flowgen.pipeline.eval_mode import eval_mode

SINGLE, HALF = "32-true", "bf16-mixed"

PROFIT: tuple[type[nn.Module], ...] = (DiT, MMDiT, UViT, UNet, UNet2D)
"""Networks of images, whose time goes into large matrix products and convolutions."""

WHOLE: tuple[type[nn.Module], ...] = (DiT, UNet)
"""Networks that are compiled without being asked for: no graph of theirs breaks."""

WORTH_HALF = 2e8
"""Operations of one evaluation of a batch from which bfloat16 gains more than its casts cost."""

WORTH_COMPILING = 5e13
"""Operations of a run, about 7 minutes of one fast core, that repay a minute of compiling."""

WORTH_THREADS = 5e8
"""Operations of a training step below which a second thread costs more than it brings."""

CHOICES = ("trainer.precision", "compile")
"""Settings whose ``null`` is decided here and stays with the run."""

_PASSES = 3
"""A training step costs its forward pass three times: the backward pass is two of them."""


def fill_choices(cfg: DictConfig, pipeline: Pipeline) -> None:
    """Write what ``null`` stands for into ``cfg.trainer.precision`` and ``cfg.compile``.

    Sets the number of CPU threads as well, which stays a setting of the machine.

    Args:
        cfg: The composed config of a training.
        pipeline: What it trains, with weights as they come.
    """
    usual_threads()
    operations = evaluation_operations(pipeline) * cfg.data.batch_size
    step = _PASSES * operations
    here = on_cpu(cfg.trainer.accelerator)
    plain = cfg.teacher is None and alone(cfg.trainer)
    network = pipeline.field.network
    if cfg.trainer.precision is None:
        if here:
            profits = plain and isinstance(network, PROFIT) and operations >= WORTH_HALF
            cfg.trainer.precision = HALF if profits and cpu_prefers_bfloat16() else SINGLE
        else:
            fill_precision(cfg.trainer)
    if cfg.compile is None:
        long = step * cfg.trainer.max_steps >= WORTH_COMPILING
        wanted = here and plain and long and not cfg.debug and isinstance(network, WHOLE)
        cfg.compile = wanted and can_compile()
    if cfg.threads is None:
        small = here and step < WORTH_THREADS
        torch.set_num_threads(1 if small else usual_threads())


def fill_precision(trainer: DictConfig) -> None:
    """Write what ``precision: null`` stands for without a look at the network."""
    if trainer.precision is None:
        gpu = trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        trainer.precision = HALF if gpu else SINGLE


def keep_choices(cfg: DictConfig, folder: Path) -> None:
    """Take over what was decided when the run in ``folder`` began, where ``cfg`` has ``null``."""
    run = OmegaConf.load(folder / "config.yaml")
    for key in CHOICES:
        if OmegaConf.select(cfg, key) is None:
            OmegaConf.update(cfg, key, OmegaConf.select(run, key))


def sampling_in_half(precision: Any, pipeline: Pipeline, at_once: int) -> bool:
    """Return whether the network of a pipeline is evaluated in bfloat16.

    Args:
        precision: ``32-true``, ``bf16-mixed``, or None to decide; as the user typed it.
        pipeline: To sample from, on its device.
        at_once: Samples in one evaluation.

    Raises:
        InputError: If the precision is another one.
    """
    if precision not in (None, SINGLE, HALF):
        raise InputError(f"precision must be {SINGLE}, {HALF} or null, got {precision}")
    if precision is not None:
        return precision == HALF
    field = pipeline.field
    # The few jumps of a flow map have no later step that mends them.
    if pipeline.device.type != "cpu" or isinstance(field, FlowMap) or processes() > 1:
        return False
    if not isinstance(field.network, PROFIT):
        return False
    return evaluation_operations(pipeline) * at_once >= WORTH_HALF and cpu_prefers_bfloat16()


def evaluation_operations(pipeline: Pipeline) -> int:
    """Return the floating-point operations of one evaluation of the field for one sample.

    Those of products and convolutions; a product of two numbers and their sum are two.
    """
    x = pipeline.noise(0, range(1))
    t = torch.full((1,), 0.5, device=x.device)
    cond: Mapping[str, Any] | None = pipeline.conditions(range(1))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), eval_mode(pipeline.field), counter:
        pipeline.field(x, t, cond)
    return counter.get_total_flops()


@cache
def usual_threads() -> int:
    """Return the CPU threads that torch had before flowgen chose any: one for each core."""
    return torch.get_num_threads()
