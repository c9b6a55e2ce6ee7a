"""``flowgen train``: build everything, say what will happen, train, say what was made.

Nothing is written before every part has been built, so bad input leaves no trace.
"""

import logging
import time
import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from flowgen.cli.console import say
from flowgen.cli.jobs import job_number, words_of_job

LOADER_KEYS = ("batch_size", "num_workers")
"""Settings of the ``data`` group that belong to the loader, not to the data set."""

NUMBERS = (
    *("seed", "clip", "ema_decay", "label_dropout", "time_eps"),
    *("data.batch_size", "data.num_workers", "trainer.max_steps"),
    *("pairing.batches", "pairing.ahead", "pairing.all_processes"),
)
"""Settings that cannot be ``null``."""

AUTO = "auto"
"""Value of ``resume`` that looks for a run by itself."""

_MOST_REHEARSED = 2048
"""Rows that are paired before training starts, to see that all parts fit."""


def run(cfg: DictConfig) -> Path:
    """Train as ``cfg`` says and return the run folder.

    Args:
        cfg: The composed config of ``configs/train.yaml``.

    Raises:
        InputError: If a part rejects its settings, or the run folder is already in use.
        SystemExit: With 128 + the number of the signal that ended the training.
    """
    import torch
    from lightning.pytorch import seed_everything
    from lightning.pytorch.utilities import rank_zero_only

    from flowgen.cli import student
    from flowgen.cli.assemble import (
        check_trainer,
        data_set,
        fill_codec,
        fill_facts,
        fill_images,
        fill_path,
        fill_weights,
        loggers,
        loop,
        module,
    )
    from flowgen.cli.automatic import fill_choices, keep_choices, usual_threads
    from flowgen.cli.compiling import compile_network, compile_step
    from flowgen.cli.conditions import use_data
    from flowgen.cli.dry_run import dry_run
    from flowgen.cli.few_steps import check_table, write_table
    from flowgen.cli.fit_coupling import training_set
    from flowgen.cli.pretrained import check_latents, fill_pretrained, start_pretrained
    from flowgen.cli.resume import Start, automatic, resumed
    from flowgen.cli.same_run import config_of_run
    from flowgen.cli.session import session
    from flowgen.core import DataCoupling, InputError
    from flowgen.data import learnt_from
    from flowgen.training import (
        BesideTeacher,
        Evaluate,
        FullySharded,
        Interruption,
        Resume,
        check_shardable,
    )

    quiet()
    given = overrides()
    first = getattr(rank_zero_only, "rank", 0) == 0
    wanted = cfg.resume
    if wanted is not None and cfg.checkpoint is not None:
        raise InputError(
            "resume goes on with a run and checkpoint starts a new one from weights: give one of "
            "them"
        )
    fill_path(cfg)
    if wanted not in (None, AUTO):
        cfg = config_of_run(cfg, given)
    for key in NUMBERS:
        if OmegaConf.select(cfg, key) is None:
            raise InputError(f"{key} must be a number, got null")
    if cfg.compile not in (None, True, False, "step"):
        raise InputError(f"compile must be true, false, step or null, got {cfg.compile}")
    usual_threads()
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    seed_everything(cfg.seed, workers=True, verbose=False)

    pretrained = fill_pretrained(cfg, given)
    fill_images(cfg)
    data = data_set(cfg.data, LOADER_KEYS)
    with open_dict(cfg):
        cfg.name = str(cfg.name or data.name)
    fill_facts(cfg, data)
    if cfg.teacher is not None:
        student.check_data(cfg)
        check_table(cfg, len(data.test))
    if pretrained is not None:
        check_latents(cfg, pretrained)
    start = Start()
    if wanted == AUTO:
        start = automatic(cfg, first=first)
        if start.folder is not None:
            keep_choices(cfg, start.folder)
    elif wanted is not None:
        start = resumed(Path(cfg.run_dir), cfg.trainer.max_steps, first=first)
    if start.over and start.folder is not None:
        if wanted == AUTO:
            return start.folder
        raise InputError(
            f"{start.folder} has taken {start.step} of its {cfg.trainer.max_steps} steps: nothing "
            "to do. To go on write trainer.max_steps=<more>"
        )
    cfg.run_dir = str(start.folder or run_folder(cfg.run_dir, cfg.name, first=first))
    check_trainer(cfg)
    flow = module(cfg)
    student.use_guidance(flow, cfg)
    if flow.pipeline.sampler.start is not None:
        raise InputError(
            "this sampler starts from a file that is fitted to a trained model: train with another "
            "one, e.g. sampler=heun, and choose it for flowgen sample and evaluate"
        )
    use_data(flow.pipeline.conditioner, data)
    fill_codec(flow.pipeline, data)
    if isinstance(flow.coupling, DataCoupling):
        flow.coupling.use(*training_set(data, "cpu"))
    fill_choices(cfg, flow.pipeline)
    trainer = loop(cfg)
    if isinstance(trainer.strategy, FullySharded):
        check_shardable(flow)
    loader = _loader(cfg, data, trainer, flow)
    rows = learnt_from(data).__getitems__(_rows_to_pair(cfg, data, trainer))
    if cfg.checkpoint is not None and wanted is None:
        if cfg.teacher is not None:
            student.check_checkpoint(flow, cfg)
            student.check_start(flow, cfg, rows)
        fill_weights(flow, cfg.checkpoint)
    elif pretrained is not None and start.folder is None:
        start_pretrained(flow, pretrained)
    elif cfg.teacher is not None and start.folder is None:
        student.fill_weights(flow, cfg)
        student.check_start(flow, cfg, rows)
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, Evaluate):
            callback.use(data, flow.pipeline)
        if isinstance(callback, BesideTeacher) and cfg.teacher is not None:
            callback.use(student.guided_teacher_of(cfg))
    flow.rehearse(rows)
    if cfg.compile == "step":
        compile_step(cfg, flow, rows)
    elif cfg.compile:
        compile_network(flow.pipeline.field.network)
    added: list[Any] = [Interruption()]
    if wanted is not None:
        added.append(Resume(start.content, loader.batch_sampler))
    trainer.callbacks[:0] = added  # pyright: ignore[reportAttributeAccessIssue]

    _introduce(cfg, data, flow, trainer, start.step)
    if cfg.dry_run:
        dry_run(cfg, data, flow, loader, trainer)
        return Path(cfg.run_dir)
    cfg.resume = None  # of this command, not of the run
    trainer.loggers = loggers(cfg, _plain(cfg))
    clock = time.perf_counter()
    with session(cfg, trainer, given, from_step=start.step):
        trainer.fit(flow, loader)
    if trainer.is_global_zero:
        say(
            f"trained {trainer.global_step - start.step} steps in "
            f"{time.perf_counter() - clock:.0f} s\n"
            f"run folder: {cfg.run_dir}\n"
            f"next: flowgen sample checkpoint={cfg.run_dir}"
        )
        if cfg.teacher is not None:
            write_table(cfg, Path(cfg.run_dir))
    return Path(cfg.run_dir)


def run_folder(given: str | None, name: str, *, first: bool = True) -> Path:
    """Return where the run writes: the folder given, else a new ``runs/<name>/<time>``.

    Jobs of a sweep, which may start together on several machines, add their number.

    Args:
        given: The user's folder, or None.
        name: Of the run.
        first: Whether this process is the one that writes; the others find its files there.

    Raises:
        InputError: If the folder given already holds a run.
    """
    from flowgen.core import InputError
    from flowgen.pipeline.checkpoint import LAST

    if given is not None:
        folder = Path(given).expanduser()
        if folder.exists() and not folder.is_dir():
            raise InputError(f"run_dir={folder} is a file; give a folder")
        if first and ((folder / LAST).exists() or (folder / "config.yaml").exists()):
            raise InputError(
                f"run_dir={folder} already holds a run: go on with it by resume={folder}, or give "
                "another folder"
            )
        return folder
    job = job_number()
    mark = "" if job is None else f"_job{job}"
    folder = Path("runs") / name / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}{mark}"
    candidate, number = folder, 1
    while candidate.exists():
        candidate, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return candidate


def overrides() -> list[Any]:
    """Return the overrides of this job, parsed as they were written; none where no Hydra runs."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not HydraConfig.initialized():
        return []
    return OverridesParser.create().parse_overrides(words_of_job())


def _loader(cfg: DictConfig, data: Any, trainer: Any, flow: Any) -> Any:
    from flowgen.core import InputError
    from flowgen.data import learnt_from, stream
    from flowgen.training import PairLoader, Stretches

    world = trainer.world_size
    if cfg.data.batch_size % world:
        raise InputError(
            f"data.batch_size={cfg.data.batch_size} is the global batch and must divide by the "
            f"{world} devices"
        )
    batches = stream(
        learnt_from(data),
        batch_size=cfg.data.batch_size // world,
        num_workers=cfg.data.num_workers,
        seed=cfg.seed,
        rank=trainer.global_rank,
        world_size=world,
    )
    pairs = PairLoader(
        flow,
        batches,
        batches=cfg.pairing.batches,
        ahead=cfg.pairing.ahead,
        all_processes=cfg.pairing.all_processes,
    )
    return Stretches(pairs)


def _rows_to_pair(cfg: DictConfig, data: Any, trainer: Any) -> list[int]:
    """Return as many rows as are paired together, within reason: some couplings refuse too few."""
    share = 1 if cfg.pairing.all_processes else trainer.world_size
    count = cfg.data.batch_size // share * cfg.pairing.batches
    return [i % len(data.train) for i in range(min(count, _MOST_REHEARSED))]


def _introduce(cfg: DictConfig, data: Any, flow: Any, trainer: Any, step: int) -> None:
    if not trainer.is_global_zero:
        return
    parameters = sum(p.numel() for p in flow.pipeline.field.parameters())
    labels = _told_conditions(flow.pipeline.conditioner, data)
    device = trainer.strategy.root_device
    going_on = f", going on after step {step}" if step else ""
    say(
        f"data      {data.name}: {len(data.train)} for training, {len(data.test)} held out, "
        f"shape {tuple(data.shape)}, {labels}\n"
        f"model     {type(flow.pipeline.field.network).__name__}, {parameters:,} parameters\n"
        f"device    {device} x {trainer.world_size}, precision {trainer.precision}, "
        f"{_threads()} CPU threads{', compiled' if cfg.compile else ''}\n"
        f"training  {trainer.max_steps} steps of {cfg.data.batch_size} (global batch){going_on}\n"
        f"run       {cfg.run_dir}"
    )


def _told_conditions(conditioner: Any, data: Any) -> str:
    from flowgen.models import ScaleConditioner

    if isinstance(conditioner, ScaleConditioner):
        others = _told_conditions(conditioner.base, data)
        return f"{others}, guidance from {conditioner.low:g} to {conditioner.high:g}"
    if conditioner is None:
        return "no labels"
    if conditioner.kinds == ("label",):
        return f"{data.num_classes} classes"
    return f"conditions {', '.join(conditioner.kinds)}"


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _plain(cfg: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True)  # pyright: ignore[reportReturnType]


def quiet() -> None:
    """Silence what Lightning says of its own internals; our own lines say what a user needs."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # the data are in memory
        ".*smaller than the logging interval.*",  # logs go by steps, not by epochs
        ".*in eval mode at the start of training.*",  # the averaged weights stay so
        ".*Experiment logs directory.*",  # a run folder is only used once
        ".*FSDP2-wrapped module.*returned a view.*",  # which nothing here changes in place
        ".*`isinstance.treespec.*",  # Lightning's own use of torch
    ):
        warnings.filterwarnings("ignore", message=message)
