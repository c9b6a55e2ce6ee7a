"""``flowgen train --dry-run``: take a few full-size steps and say what the whole run will need.

Out-of-memory and a full disk usually come late, at the first evaluation or checkpoint. Here a step,
a picture of samples and an evaluation are taken at their full size first, nothing is kept, and
time, memory and disk of the whole run follow from what they took.
"""

import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say

STEPS = 5
"""Steps that are timed, after one that warms up."""

PATIENCE = 30.0
"""Seconds after which no further step is timed."""

PICTURE_BYTES = 200_000
"""About what a picture of samples takes on disk."""

GIB = 2**30


def dry_run(cfg: DictConfig, data: Any, flow: Any, loader: Any, trainer: Any) -> None:
    """Rehearse the run that ``cfg`` describes and print what it will need.

    Args:
        cfg: The composed config of a training, its facts filled in.
        data: The data set.
        flow: The module of the run, before any step; its weights are used up.
        loader: Its batches, at their full size.
        trainer: Of the run, with its callbacks; not started.
    """
    device, step_seconds = _steps(cfg, flow, loader)
    needs = [("time per step", f"{1e3 * step_seconds:.1f} ms")]
    total = step_seconds * cfg.trainer.max_steps
    for name, due, work in _others(cfg, data, flow, trainer):
        start = _now(device)
        work()
        seconds = _now(device) - start
        total += seconds * due
        often = f"{due} in the run" if due else "none in the run"
        needs.append((name, f"{seconds:.2f} s, {often}"))
    size, copies = _checkpoint_bytes(flow), _copies(cfg)
    pictures = PICTURE_BYTES * _due(cfg, "sample_grid")
    disk = size * copies + pictures
    needs += [
        ("time to finish", _duration(total)),
        ("peak memory", _memory(device)),
        ("disk", f"{_bytes(disk)} ({copies} checkpoints of {_bytes(size)})"),
    ]
    left = max(len(name) for name, _ in needs) + 2
    say("\n".join(f"{name:<{left}}{value}" for name, value in needs))
    folder = _existing(Path(cfg.run_dir).absolute())
    free = shutil.disk_usage(folder).free
    if disk > free:
        say(f"too little disk: {_bytes(free)} free in {folder}; keep fewer checkpoints")
    say("dry run: nothing was written")


def _steps(cfg: DictConfig, flow: Any, loader: Any) -> tuple[Any, float]:
    """Return the device and the median seconds of a step."""
    from flowgen.cli.assemble import loop

    short = cfg.copy()
    short.callbacks = {}
    short.trainer.max_steps = STEPS + 1
    trainer = loop(short)
    clock = _step_clock()
    trainer.callbacks.append(clock)  # pyright: ignore[reportAttributeAccessIssue]
    trainer.fit(flow, loader)
    seconds = sorted(clock.seconds[1:] or clock.seconds)
    return trainer.strategy.root_device, seconds[len(seconds) // 2]


def _step_clock() -> Any:
    """Return a callback that times steps; Lightning is imported only when a run is rehearsed."""
    from lightning.pytorch import Callback

    class StepClock(Callback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.start = self.last = time.perf_counter()

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            del trainer
            self.start = self.last = _now(pl_module.device)

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            del outputs, batch, batch_idx
            now = _now(pl_module.device)
            self.seconds.append(now - self.last)
            self.last = now
            if now - self.start > PATIENCE:
                trainer.should_stop = True

    return StepClock()


def _others(
    cfg: DictConfig, data: Any, flow: Any, trainer: Any
) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Yield what happens beside the steps: its name, how often, and one time of it."""
    from flowgen.core import InputError
    from flowgen.evaluation import ImageDistance, LabelAgreement, Transport
    from flowgen.training import Evaluate

    pictures = OmegaConf.select(cfg, "callbacks.sample_grid.num_samples") or 16
    yield (
        f"picture of {pictures} samples",
        _due(cfg, "sample_grid"),
        lambda: flow.averaged().sample(pictures),
    )
    evaluate = next((each for each in trainer.callbacks if isinstance(each, Evaluate)), None)
    if evaluate is None:
        cheap = (ImageDistance(max_reference=500), LabelAgreement(), Transport(max_points=256))
        evaluate = Evaluate(cfg.run_dir, {type(each).__name__: each for each in cheap})
        try:
            evaluate.use(data, flow.pipeline)
        except InputError:  # nothing can be measured on such data
            return
    due = _due(cfg, "evaluate")
    yield f"evaluation of {evaluate.num_samples} samples", due, lambda: evaluate.rehearse(flow)


def _due(cfg: DictConfig, callback: str) -> int:
    """Return how often a callback acts in the run, its end included; 0 if it is not there."""
    node = OmegaConf.select(cfg, f"callbacks.{callback}")
    if node is None or "_target_" not in node:
        return 0
    return -(-cfg.trainer.max_steps // node.every_n_steps)


def _checkpoint_bytes(flow: Any) -> int:
    import torch

    from flowgen.training.sharding import gathered

    class Counter(io.RawIOBase):
        size = 0

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.size += len(data)
            return len(data)

    counter = Counter()
    optimizers = [optimizer.state_dict() for optimizer in flow.trainer.optimizers]
    content = {"state_dict": flow.state_dict(), "optimizer_states": optimizers}
    content = gathered(content, keep=True)
    torch.save(content, counter)  # pyright: ignore[reportArgumentType]  # all that it calls is there
    return counter.size


def _copies(cfg: DictConfig) -> int:
    """Return how many checkpoints there are in the end."""
    node = OmegaConf.select(cfg, "callbacks.checkpoints")
    if node is None or "_target_" not in node:
        return 0
    for_good = 0 if node.keep_every is None else cfg.trainer.max_steps // node.keep_every
    # last.ckpt is another name of the newest copy, if copies are kept.
    return max(1, node.keep_last) + for_good + (node.best_metric is not None)


def _now(device: Any) -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _memory(device: Any) -> str:
    """Return the largest memory so far: of the GPU where there is one, and of this process."""
    import resource
    import sys

    import torch

    unit = 1 if sys.platform == "darwin" else 1024
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    text = f"{_bytes(process)} of this process"
    if device.type == "cuda":
        used = torch.cuda.max_memory_reserved(device)
        there = torch.cuda.get_device_properties(device).total_memory
        text = f"{_bytes(used)} of {_bytes(there)} on {device}, {text}"
    return text


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
