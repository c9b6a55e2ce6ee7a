"""A student takes model, path, source, codec and data from its teacher, and starts as its copy."""

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from flowgen.cli.assemble import make
from flowgen.cli.console import say
from flowgen.core import FlowMap, InputError, Pair, VelocityField, generator_for
from flowgen.distill import Frozen
from flowgen.models import (
    GUIDANCE,
    PROMPT,
    Autoguidance,
    Conditioners,
    ConsistencyField,
    ScaleConditioner,
    ToldScale,
)
from flowgen.paths import AffinePath, Velocity, check_agreement, check_conventions
from flowgen.pipeline import Pipeline, load, teacher_pipeline
from flowgen.pipeline.source_data import KEY as SOURCE_KEY
from flowgen.training import FlowModule
from flowgen.training.state import start_from

TAKEN = ("model", "path", "prediction", "source", "data_std", "time_eps", "conditional")
"""Settings that a student has from its teacher."""

_BESIDES = ("condition.embeddings.interval.", "condition.embeddings.guidance.")
_CHECKED = 64


def teacher_of(cfg: DictConfig) -> Pipeline:
    """Return the teacher of a config.

    Raises:
        InputError: If it cannot be read or is none.
    """
    return teacher_pipeline(
        cfg.teacher, weights=cfg.teacher_weights, trust_code=bool(cfg.trust_code)
    )


def guided_teacher_of(cfg: DictConfig) -> Pipeline:
    """Return the teacher of a config as it is distilled.

    Raises:
        InputError: If it cannot be read, is none, or cannot be guided so.
    """
    guidance = make(cfg.guidance, "guidance")
    guided = teacher_of(cfg).guided(guidance)
    if isinstance(guidance, Autoguidance) and isinstance(guidance.weak, torch.nn.Module):
        guided.add_module("weak", guidance.weak)  # a part, so that it moves with the teacher
    return guided


def fill_student(cfg: DictConfig, overridden: Sequence[str]) -> None:
    """Write what the student has from its teacher into ``cfg``.

    Args:
        cfg: The composed config of ``configs/distill.yaml``.
        overridden: Keys that the user has set.

    Raises:
        InputError: If the teacher cannot be used, or the user sets what is the teacher's.
    """
    for key in overridden:
        if key.split(".")[0].split("@")[0] in TAKEN:
            raise InputError(f"{key} cannot be set: a student has it from its teacher")
    teacher = teacher_of(cfg)
    if not teacher.config:
        raise InputError(f"teacher={cfg.teacher} does not describe itself, so it has no student")
    parts = teacher.config
    field = parts["field"]
    if isinstance(teacher.conditioner, ScaleConditioner):
        raise InputError(
            f"teacher={cfg.teacher} is itself a student that is told its guidance: give the model "
            "that it was distilled from"
        )
    told = {"interval": True} if cfg.model.get("interval", False) else {}
    if cfg.guidance_range is not None:
        told["guided"] = True
    with open_dict(cfg):
        cfg.model = {**field["network"], **told}
        cfg.path, cfg.prediction, cfg.source = field["path"], field["prediction"], parts["source"]
        if SOURCE_KEY in teacher.about:
            cfg.source.data = teacher.about[SOURCE_KEY]
        cfg.data_std, cfg.time_eps = field.get("data_std"), field.get("t_eps", cfg.time_eps)
        _fill_conditions(cfg, teacher)
        if "_target_" not in cfg.data:
            data = teacher.about.get("data")
            if not data:
                raise InputError(
                    "the teacher does not say what it was trained on; give data=<name>"
                )
            # Its own size of a batch suits its data, unless the user knows better.
            merged = OmegaConf.merge(cfg.data, data)
            for key in (each for each in overridden if each.startswith("data.")):
                OmegaConf.update(merged, key.removeprefix("data."), OmegaConf.select(cfg, key))
            cfg.data = merged
        about = teacher.about.get("name") or "student"
        cfg.name = cfg.name or f"{about}_{_method(cfg)}"


def _fill_conditions(cfg: DictConfig, teacher: Pipeline) -> None:
    """Let the student take what its teacher takes, its text encoded alike."""
    conditioner = teacher.conditioner
    cfg.conditional = False if conditioner is None else list(conditioner.kinds)
    if isinstance(conditioner, Conditioners) and PROMPT in conditioner.kinds:
        own = teacher.config["conditioner"]["parts"][PROMPT]
        cfg.text_encoder, cfg.text_length = own["encoder"], own["length"]


def _method(cfg: DictConfig) -> str:
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return "student"
    return str(HydraConfig.get().runtime.choices.get("distill") or "student")


def check_data(cfg: DictConfig) -> None:
    """Raise unless the data set is encoded as the teacher's was.

    Raises:
        InputError: Naming what differs: shape, number of classes, or normalisation.
    """
    parts = teacher_of(cfg).config
    facts: dict[str, Any] = OmegaConf.to_container(cfg.facts)  # pyright: ignore[reportAssignmentType]
    conditioner = parts.get("conditioner") or {}
    counts = {
        name: part["num_classes"]
        for name, part in conditioner.get("parts", {}).items()
        if "num_classes" in part
    }
    wanted = {
        "codec": parts["codec"],
        "num_classes": conditioner.get("num_classes", counts or None),
    }
    network = parts["field"]["network"]
    if "shape" in network:
        wanted["shape"] = list(network["shape"])
    for name, value in wanted.items():
        if facts[name] != value:
            raise InputError(
                f"data and teacher differ in {name}: {facts[name]} and {value}; distil with the "
                "data it was trained on, or such that are encoded alike"
            )


def fill_weights(flow: FlowModule, cfg: DictConfig) -> None:
    """Let the student start as its teacher; say which layers have no counterpart.

    Raises:
        InputError: If the weights do not fit, or the method goes on with a student.
    """
    before = getattr(flow.objective, "continues", None)
    if before is not None:
        raise InputError(
            "this method goes on with a student, which the teacher is not: give "
            f"checkpoint=<run of distill={before}>"
        )
    state = dict(teacher_of(cfg).field.state_dict())
    own = flow.pipeline.field.state_dict()
    beside = [name for name in own if any(part in name for part in _BESIDES)]
    new = [name for name in beside if name not in state]
    start = {**state, **{name: own[name] for name in new}}
    start_from(flow, start, start)
    layers = sorted({name.rsplit(".", 1)[0] for name in new})
    if layers:
        say(f"student   starts as its teacher; new, with no effect yet: {', '.join(layers)}")
    else:
        say("student   starts as its teacher, in all layers")


def check_checkpoint(flow: FlowModule, cfg: DictConfig) -> None:
    """Raise unless ``cfg.checkpoint``, given beside a teacher, has the conventions of the student.

    Other weights would fit as well, and their output be read as what it is not.

    Raises:
        InputError: Naming what differs: path, prediction, scale of the inputs or codec.
    """
    found = load(cfg.checkpoint, device="cpu", trust_code=bool(cfg.trust_code))
    own, other = flow.pipeline.config, found.config
    pairs = {
        name: (other.get("field", {}).get(name), own["field"].get(name))
        for name in ("path", "prediction", "data_std")
    } | {"codec": (other.get("codec"), own["codec"])}
    # The same path may be written in two ways.
    same = _same_path(found.field.path, flow.pipeline.field.path)
    for name, (had, wanted) in pairs.items():
        if had != wanted and not (name == "path" and same):
            raise InputError(
                f"checkpoint={cfg.checkpoint} and teacher={cfg.teacher} differ in {name}: {had} "
                f"and {wanted}; give a student of this teacher"
            )


def _same_path(one: Any, other: Any) -> bool:
    if not (isinstance(one, AffinePath) and isinstance(other, AffinePath)):
        return False
    t = torch.linspace(0.01, 0.99, 9)  # inside, where every path is finite
    both = one.coefficients(t), other.coefficients(t)
    return all(
        torch.allclose(*(getattr(each, name) for each in both), atol=1e-5)
        for name in ("alpha", "sigma")
    )


def check_start(flow: FlowModule, cfg: DictConfig, batch: dict[str, torch.Tensor]) -> None:
    """Raise unless teacher, student and data agree, before the first step.

    One batch tells whether the teacher's velocity is one of these data on this path, and whether
    the student's is the teacher's, unless it starts as another student (``cfg.checkpoint``).

    Args:
        flow: With the student's first weights.
        cfg: Whose teacher it is.
        batch: At least 8 rows of the data.

    Raises:
        InputError: Saying what does not agree.
    """
    field, teacher = flow.pipeline.field, teacher_of(cfg)
    path = field.path
    if not isinstance(path, AffinePath) or len(batch["x_1"]) < 8:
        return
    few = {name: value[:_CHECKED] for name, value in batch.items()}
    generator = generator_for(flow.seed)
    x_1 = flow.pipeline.codec.encode(few["x_1"])
    x_0 = flow.pipeline.source.sample(len(x_1), generator=generator)
    conditioner = flow.pipeline.conditioner
    cond = None if conditioner is None else conditioner.take(few)
    pair = Pair(x_0, x_1, cond)
    known = _Untold(teacher.field.to(x_1.device))
    try:
        check_conventions(known, path, pair, generator=generator).require()
    except InputError as error:
        raise InputError(f"teacher={cfg.teacher} does not fit the data: {error}") from error
    if cfg.checkpoint is not None:
        return
    training = field.training
    field.eval()
    check_agreement(_Velocity(field), known, path, pair, generator=generator)
    field.train(training)


def use_guidance(flow: FlowModule, cfg: DictConfig) -> None:
    """Give pictures and comparisons of a student that is told its guidance the scale of ``cfg``.

    Raises:
        InputError: If there is a range and the method does not follow the teacher's velocity, the
            pairs are made already, or the scale lies outside.
    """
    if cfg.get("guidance_range") is None:
        return
    objective: Any = flow.objective
    parts = objective.modules() if isinstance(objective, torch.nn.Module) else ()
    teachers = [part.field for part in parts if isinstance(part, Frozen)]
    if not any(isinstance(field, ToldScale) for field in teachers):
        raise InputError(
            f"guidance_range={list(cfg.guidance_range)}: this method does not follow the teacher's "
            "velocity, so there is no guidance to learn: use another distill=<name>"
        )
    if getattr(flow.coupling, "of_flow", False):
        raise InputError(
            f"guidance_range={list(cfg.guidance_range)}: pairs that are made already have one "
            "scale: leave coupling=made_pairs out"
        )
    flow.pipeline = flow.pipeline.guided(float(make(cfg.guidance, "guidance").scale))


class _Untold:
    """A teacher that takes no notice of the scale that its student is told."""

    def __init__(self, field: VelocityField) -> None:
        self.field = field
        self.domain: tuple[float, float] = getattr(field, "domain", (0.0, 1.0))

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        others = {name: value for name, value in (cond or {}).items() if name != GUIDANCE}
        return self.field(x, t, others or None)


class _Velocity:
    """The velocity that a student stands for at its start."""

    def __init__(self, field: VelocityField) -> None:
        self.field = field
        self.domain: tuple[float, float] = getattr(field, "domain", (0.0, 1.0))

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        if isinstance(self.field, ConsistencyField):
            return self.field.predict(x, t, cond, Velocity())
        if isinstance(self.field, FlowMap):
            return self.field.mean_velocity(x, t, t, cond)
        return self.field(x, t, cond)
