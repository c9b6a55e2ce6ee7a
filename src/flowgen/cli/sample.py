"""``flowgen sample``: draw samples from a checkpoint into a picture, files or arrays.

Started as several processes, each draws a part of the samples and the first one writes them all.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from flowgen.cli.console import say
from flowgen.cli.given_images import asked_of

if TYPE_CHECKING:
    from torch import Tensor

    from flowgen.pipeline import Pipeline


def run(cfg: DictConfig) -> Path | None:
    """Sample as ``cfg`` says and return where the result is; None after a dry run.

    Args:
        cfg: The composed config of ``configs/sample.yaml``.

    Raises:
        InputError: If the checkpoint, a label, a number or the output cannot be used.
    """
    from flowgen.cli.together import together

    with together(cfg) as processes:
        return _sample(cfg, processes)


def _sample(cfg: DictConfig, processes: Any) -> Path | None:
    import torch
    from tqdm import tqdm

    from flowgen.cli.restore import home, restore
    from flowgen.data import DataSource
    from flowgen.pipeline.images import save_beside
    from flowgen.pipeline.outputs import writer

    pipeline = restore(cfg)
    pipeline, job = _given(cfg, pipeline) if cfg.noise else _drawn(cfg, pipeline)
    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.checkpoint) / "samples.png"
    write = writer(out, columns=cfg.columns)
    if cfg.dry_run:
        nodes = pipeline.sampler.grid_for(pipeline.velocity()).tolist()
        if processes.first:
            say(f"time grid: {', '.join(f'{t:.6g}' for t in nodes)}")
            say(f"evaluations of the field for each sample: {pipeline.nfe()}")
        return None

    start = time.perf_counter()
    share = processes.shards.share(job.total)
    chunks = []
    with tqdm(total=len(share), desc="sampling", unit="sample", disable=not processes.first) as bar:
        if share:
            for chunk in job.chunks(share):
                chunks.append(chunk)
                bar.update(len(chunk))
    chunks = [chunk for part in processes.collect(chunks) for chunk in part]
    if processes.first:
        samples = torch.cat(chunks)
        if out.suffix == ".png" and isinstance(pipeline.source, DataSource) and not cfg.noise:
            starts = pipeline.source.stored(range(job.total))
            save_beside(starts, samples, out, columns=cfg.columns)
        else:
            write(samples, job.labels)
        seconds = time.perf_counter() - start
        say(f"{job.total} samples in {seconds:.1f} s, precision {cfg.precision}: {out}")
    return out


class _Job(NamedTuple):
    """Samples to come: how many, their labels, and those of some numbers in chunks."""

    total: int
    labels: "Tensor | None"
    chunks: "Callable[[range], Iterable[Tensor]]"


def _drawn(cfg: DictConfig, pipeline: "Pipeline") -> "tuple[Pipeline, _Job]":
    """Samples from fresh noise, or from the data that a model starts from."""
    from flowgen.cli.source_images import started

    pipeline, count = started(cfg, pipeline)
    asked = asked_of(cfg)
    labels = pipeline.labels(count, cond=asked)
    everything = pipeline.asked(count, cond=asked)

    def chunks(share: range) -> "Iterable[Tensor]":
        return pipeline.drawn(share, everything, seed=cfg.seed, chunk=cfg.chunk)

    return pipeline, _Job(count, labels, chunks)


def _given(cfg: DictConfig, pipeline: "Pipeline") -> "tuple[Pipeline, _Job]":
    """Samples from the noise of a file."""
    from flowgen.core import InputError
    from flowgen.pipeline.editing import from_noise
    from flowgen.pipeline.editing.conditions import after, before
    from flowgen.pipeline.noise_file import read_noise

    if cfg.images is not None:
        raise InputError("noise and images are both given: samples start from one of them")
    noise, was = read_noise(cfg.noise, pipeline)
    asked = asked_of(cfg)
    wanted = after(pipeline, len(noise), before(pipeline, len(noise), was), asked) or {}
    labels = wanted["label"].cpu() if "label" in wanted else None

    def chunks(share: range) -> "Iterable[Tensor]":
        return from_noise(
            pipeline, noise, was=was, asked=asked, numbers=share, seed=cfg.seed, chunk=cfg.chunk
        )

    return pipeline, _Job(len(noise), labels, chunks)
