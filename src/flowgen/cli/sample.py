"""``flowgen sample``: draw samples from a checkpoint into a picture, files or arrays.

Started as several processes, each draws a part of the samples and the first one writes them all.
"""

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from flowgen.cli.console import say


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
    from flowgen.cli.source_images import started
    from flowgen.data import DataSource
    from flowgen.pipeline.images import save_beside
    from flowgen.pipeline.outputs import writer

    pipeline, count = started(cfg, restore(cfg))
    asked = {name: _plain(cfg[name]) for name in ("label", "prompt", "style")}
    labels = pipeline.labels(count, cond=asked)
    out = Path(cfg.out).expanduser() if cfg.out else home(cfg.checkpoint) / "samples.png"
    write = writer(out, columns=cfg.columns)
    if cfg.dry_run:
        nodes = pipeline.sampler.grid_for(pipeline.velocity()).tolist()
        if processes.first:
            say(f"time grid: {', '.join(f'{t:.6g}' for t in nodes)}")
            say(f"evaluations of the field for each sample: {pipeline.nfe()}")
        return None

    start = time.perf_counter()
    share = processes.shards.share(count)
    chunks = []
    with tqdm(total=len(share), desc="sampling", unit="sample", disable=not processes.first) as bar:
        if share:
            everything = pipeline.asked(count, cond=asked)
            for chunk in pipeline.drawn(share, everything, seed=cfg.seed, chunk=cfg.chunk):
                chunks.append(chunk)
                bar.update(len(chunk))
    chunks = [chunk for part in processes.collect(chunks) for chunk in part]
    if processes.first:
        samples = torch.cat(chunks)
        if out.suffix == ".png" and isinstance(pipeline.source, DataSource):
            save_beside(pipeline.source.stored(range(count)), samples, out, columns=cfg.columns)
        else:
            write(samples, labels)
        say(f"{count} samples in {time.perf_counter() - start:.1f} s: {out}")
    return out


def _plain(value: Any) -> Any:
    """Return what is asked for as plain values: one, or a list."""
    return list(value) if OmegaConf.is_list(value) else value
