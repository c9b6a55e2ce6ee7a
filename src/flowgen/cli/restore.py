"""From a ``checkpoint=`` setting to a pipeline that samples the way the user asked for."""

from pathlib import Path

from omegaconf import DictConfig

from flowgen.cli.assemble import make
from flowgen.cli.automatic import HALF, SINGLE, sampling_in_half
from flowgen.cli.compiling import compile_network
from flowgen.core import InputError
from flowgen.paths import AffinePath, Rescheduled
from flowgen.pipeline import Pipeline, find, load
from flowgen.pipeline.checkpoint import FRONT


def restore(cfg: DictConfig) -> Pipeline:
    """Return the pipeline of ``cfg.checkpoint`` with sampler, path and guidance as asked for.

    Writes the precision that was decided into ``cfg``, where it has one.

    Raises:
        InputError: If the checkpoint cannot be read, or a setting does not fit it.
    """
    if cfg.get("num_samples", 1) < 1:
        raise InputError(f"num_samples must be >= 1, got {cfg.num_samples}")
    loaded = load(
        cfg.checkpoint,
        weights=cfg.weights,
        device=cfg.get("device", "cpu"),
        trust_code=cfg.trust_code,
    )
    # Numbers out of range are told by what uses them.
    at_once = max(1, min(cfg.get("num_samples", 1), cfg.get("chunk", 256)))
    half = sampling_in_half(cfg.get("precision", SINGLE), loaded, at_once)
    if half:
        loaded = loaded.in_bfloat16()
    if "precision" in cfg:
        cfg.precision = HALF if half else SINGLE
    if cfg.get("compile"):
        compile_network(loaded.field.network)
    if "_target_" in cfg.sampler:
        loaded = loaded.with_sampler(make(cfg.sampler, "sampler"))
    elif cfg.sampler.num_steps is not None:
        loaded = loaded.with_sampler(loaded.sampler.with_num_steps(cfg.sampler.num_steps))
    if cfg.get("path") is not None:
        path = make(cfg.path, "path")
        if not isinstance(path, AffinePath):
            raise InputError("path: sampling can change to an affine path only")
        field = loaded.field
        if not isinstance(field.path, AffinePath):
            raise InputError("path: this model's path has noise of its own, and cannot be changed")
        followed = Rescheduled(field, field.path.schedule, path.schedule.to(loaded.device))
        loaded = loaded.with_field(followed)
    return loaded.guided(make(cfg.guidance, "guidance")) if "guidance" in cfg else loaded


def home(checkpoint: str) -> Path:
    """Return the folder where results of a checkpoint belong: its run folder, if it has one.

    Those of a checkpoint on the hub belong into the working directory, not into the hub's cache.
    """
    if str(checkpoint).startswith(FRONT):
        return Path()
    file = find(checkpoint)
    return file.parent.parent if file.parent.name == "checkpoints" else file.parent
