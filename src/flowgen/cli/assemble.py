"""From the composed config to the objects of a run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from flowgen.cli.automatic import HALF, SINGLE, fill_precision
from flowgen.cli.build import make
from flowgen.cli.conditions import fill_conditions
from flowgen.core import InputError, Scheduled
from flowgen.couplings import BridgeEpsilon, Independent
from flowgen.data import DataSet, DataSource, Header
from flowgen.paths import BrownianBridge
from flowgen.pipeline import Pipeline, build, find, load, path_file
from flowgen.pipeline.checkpoint import read_training_checkpoint
from flowgen.pipeline.checkpoint.migrations import migrate
from flowgen.pipeline.checkpoint.problems import told_of
from flowgen.pipeline.checkpoint.weights import choose
from flowgen.pipeline.score import INDEPENDENT, check_sampler
from flowgen.pipeline.score import KEY as SCORE_KEY
from flowgen.pipeline.source_data import KEY as SOURCE_KEY
from flowgen.training import FlowModule
from flowgen.training.state import start_from

PRECISIONS = (SINGLE, HALF, "64-true")
"""Precisions of a training; weights and times are never in half precision."""


def data_set(node: DictConfig, without: Sequence[str] = ()) -> DataSet:
    """Return the data set of a ``data`` node, leaving the keys ``without`` to the loader."""
    own = OmegaConf.masked_copy(node, [str(key) for key in node if key not in without])
    own._set_parent(node._get_parent())
    return make(own, "data")


def fill_path(cfg: DictConfig) -> None:
    """Write the numbers of a path that is read from a file into ``cfg``, in place of the file.

    From then on config, run folder and checkpoints need the file no more.

    Raises:
        InputError: If the file cannot be used.
    """
    node = OmegaConf.select(cfg, "path.schedule")
    if isinstance(node, DictConfig) and node.get("_target_") == path_file.TARGET:
        with open_dict(cfg):
            cfg.path.schedule = path_file.schedule_config(node.file)
        make(cfg.path.schedule, "path.schedule")


def fill_facts(cfg: DictConfig, data: DataSet) -> None:
    """Write what the data set knows (shape, conditions, codec) into ``cfg``.

    Raises:
        InputError: If conditions are asked for that the data do not have.
    """
    cfg.facts.shape = list(data.codec.encoded_shape(data.shape))
    cfg.facts.codec = data.codec.to_config()
    fill_conditions(cfg, data)


def fill_images(cfg: DictConfig) -> None:
    """Write the images that a folder of latents is of into ``cfg.data``.

    Raises:
        InputError: If the folder cannot be read.
    """
    if cfg.data.get("_target_") == "flowgen.data.LatentData" and cfg.data.images is None:
        with open_dict(cfg):
            cfg.data.images = dict(Header.read(cfg.data.folder).images)


def fill_codec(own: Pipeline, data: DataSet) -> None:
    """Copy the weights of the data's codec, where it has any, into a pipeline.

    Raises:
        InputError: If source and encoded data differ in shape.
    """
    encoded = tuple(data.codec.encoded_shape(data.shape))
    drawn = tuple(own.noise(0, range(1)).shape[1:])
    if drawn != encoded:
        raise InputError(f"source and data must have one shape, got {drawn} and {encoded}")
    if isinstance(own.codec, nn.Module) and isinstance(data.codec, nn.Module):
        own.codec.load_state_dict(data.codec.state_dict())


def pipeline(cfg: DictConfig) -> Pipeline:
    """Return the pipeline of a run, carrying its own plain config and that of its data."""
    config = OmegaConf.to_container(cfg.pipeline, resolve=True)
    assert isinstance(config, dict)
    built = build(config, trust_code=True)  # pyright: ignore[reportArgumentType]
    assert isinstance(built, Pipeline)
    built.about = {"name": cfg.name, "data": OmegaConf.to_container(cfg.data, resolve=True)}
    if isinstance(built.source, DataSource):
        # The rows stay where they are; what is known of them travels.
        built.about[SOURCE_KEY] = config["source"].pop("data")
        built.source.codec = built.codec
        config["source"]["digest"] = built.source.digest
    built.config = config  # pyright: ignore[reportAttributeAccessIssue]
    return built


def module(cfg: DictConfig) -> FlowModule:
    """Return the LightningModule of a run.

    Raises:
        InputError: If a part rejects its settings.
    """
    coupling, objective = make(cfg.coupling, "coupling"), make(cfg.objective, "objective")
    scheduled: Any = objective
    if isinstance(scheduled, Scheduled):
        scheduled.total_steps = cfg.trainer.max_steps
    if getattr(objective, "learns_score", False):
        _add_noise_network(cfg)
    sampled = pipeline(cfg)
    # Pairs that a flow has made tie noise to data, whatever the coupling left.
    given = getattr(objective, SCORE_KEY, True)
    sampled.about[SCORE_KEY] = bool(coupling.score_valid and given)
    sampled.about[INDEPENDENT] = bool(isinstance(coupling, Independent) and given)
    # A coupling that was fitted to one source, an objective whose students need certain steps.
    getattr(coupling, "check_source", _anything)(sampled.source)
    getattr(objective, "check_sampler", _anything)(sampled.sampler)
    _check_bridge(coupling, getattr(sampled.field, "path", None))
    check_sampler(sampled.sampler, sampled.source, sampled.about, sampled.field)
    flow = FlowModule(
        sampled,
        objective,
        coupling,
        optimizer=make(cfg.optimizer, "optimizer"),
        lr_schedule=make(cfg.lr_schedule, "lr_schedule"),
        ema_decay=cfg.ema_decay,
        clip=cfg.clip,
        micro_batch=cfg.micro_batch,
        seed=cfg.seed,
        max_skipped=cfg.max_skipped,
        nonfinite=None if cfg.run_dir is None else Path(cfg.run_dir) / "nonfinite",
    )
    try:
        # Lightning asks again; asking now tells a bad number before anything is written.
        flow.configure_optimizers()
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"optimizer: {error}") from error
    return flow


def _anything(part: object) -> None:
    """Have no objection."""


def _check_bridge(coupling: object, path: object) -> None:
    """Raise if pairs are the ends of a Schroedinger bridge, and the path that of another scale."""
    epsilon, noise = getattr(coupling, "epsilon", None), getattr(path, "noise", None)
    if not (isinstance(epsilon, BridgeEpsilon) and isinstance(noise, BrownianBridge)):
        return
    if not math.isclose(epsilon.sigma, noise.scale, rel_tol=1e-6):
        raise InputError(
            f"coupling.epsilon.sigma={epsilon.sigma:g} and path.noise.scale={noise.scale:g} must "
            f"be the same number: set coupling.epsilon.sigma={noise.scale:g}, or another coupling"
        )


def _add_noise_network(cfg: DictConfig) -> None:
    """Give the field a second network of the same kind, for the latent noise."""
    with open_dict(cfg):
        cfg.pipeline.field["_target_"] = "flowgen.models.InterpolantField"
        cfg.pipeline.field["noise_network"] = "${model}"


def fill_weights(flow: FlowModule, checkpoint: str) -> None:
    """Start from the weights of another run: raw from raw, averaged from averaged ones.

    Args:
        flow: The module of the new run.
        checkpoint: Run folder or file; an exported file holds one set, which serves as both.

    Raises:
        InputError: If it cannot be read, or its weights do not fit the network.
    """
    file = find(checkpoint)
    if file.suffix == ".safetensors":
        raw = ema = load(file, device="cpu").field.state_dict()
    else:
        content = read_training_checkpoint(file)
        with told_of(file):
            state = migrate(content)["state_dict"]
            raw, ema = choose(state, "raw"), choose(state, "ema")
    try:
        start_from(flow, raw, ema)
    except InputError as error:
        raise InputError(f"checkpoint={checkpoint}: {error}") from error


def check_trainer(cfg: DictConfig) -> None:
    """Look at the numbers of a trainer before anything is built.

    Raises:
        InputError: If one is out of range.
    """
    if cfg.trainer.max_steps < 1:
        raise InputError(f"trainer.max_steps must be >= 1, got {cfg.trainer.max_steps}")
    if cfg.trainer.precision not in (None, *PRECISIONS):
        # Scaled gradients of float16 would be clipped; times rounded to half precision are wrong.
        raise InputError(
            f"trainer.precision must be one of {', '.join(PRECISIONS)}, got {cfg.trainer.precision}"
        )


def loop(cfg: DictConfig) -> Trainer:
    """Return Lightning's trainer with the callbacks of the run.

    Raises:
        InputError: If the accelerator is not there, or a number is out of range.
    """
    check_trainer(cfg)
    fill_precision(cfg.trainer)
    # A recipe may set details of a callback that the chosen set leaves out: no target, no callback.
    chosen = {name: node for name, node in cfg.callbacks.items() if "_target_" in (node or {})}
    callbacks = [make(node, f"callbacks.{name}") for name, node in chosen.items()]
    fixed = {
        "callbacks": callbacks,
        "max_epochs": -1,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    if taken := [name for name in fixed if name in cfg.trainer]:
        raise InputError(f"trainer.{taken[0]} cannot be set: flowgen sets it itself")
    try:
        return instantiate(cfg.trainer, **fixed, _convert_="all")
    except InstantiationException as error:
        raise InputError(f"trainer: {str(error.__cause__ or error).splitlines()[0]}") from error


def loggers(cfg: DictConfig, config: dict[str, Any]) -> list[Logger]:
    """Return the loggers of a run, told its config; they may create files in the run folder."""
    made = [make(node, f"logger.{name}") for name, node in cfg.logger.items()]
    for logger in made:
        logger.log_hyperparams(config)
    return made
