"""The table that ends a distillation: quality at few evaluations, student beside teacher."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from flowgen.cli.console import say

NAME = "few_steps.json"
"""File of the table in the run folder; the plot lies beside it."""


def check_table(cfg: DictConfig, held_out: int) -> None:
    """Look at the settings of the table before the first step: it is made after the last one.

    Args:
        cfg: Of the run.
        held_out: How many samples the data hold out; 2 are needed to compare with.

    Raises:
        InputError: If a number is out of range, a measure cannot be built, or there is nothing to
            compare with.
    """
    from flowgen.cli.assemble import make
    from flowgen.core import InputError

    table, steps = cfg.table, cfg.table.num_steps
    if not isinstance(steps, ListConfig) or not steps or not all(_whole(n, 1) for n in steps):
        told = list(steps) if isinstance(steps, ListConfig) else steps
        raise InputError(f"table.num_steps must be whole numbers >= 1, got {told}")
    for name, least in (("reference_steps", 1), ("chunk", 1), ("seed", 0)):
        if not _whole(table[name], least):
            raise InputError(f"table.{name} must be a whole number >= {least}, got {table[name]}")
    if table.num_samples == 0:
        return
    if not _whole(table.num_samples, 2):
        raise InputError(
            f"table.num_samples must be a whole number >= 2, or 0 for no table, got "
            f"{table.num_samples}"
        )
    if held_out < 2:
        raise InputError(
            f"the data hold out {held_out} samples and the table compares with 2 at least: write "
            "table.num_samples=0 for no table"
        )
    for name, node in table.measures.items():
        make(node, f"table.measures.{name}")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def write_table(cfg: DictConfig, folder: Path) -> None:
    """Measure student and teacher as ``cfg.table`` says, print the table, write it and a plot.

    Args:
        cfg: Of the run.
        folder: The run folder, with the student's last checkpoint.

    Raises:
        InputError: If no measure fits.
    """
    from flowgen.cli.assemble import data_set, make
    from flowgen.cli.student import guided_teacher_of
    from flowgen.cli.train import LOADER_KEYS
    from flowgen.evaluation import Setting, fitting, protocol, rows_text, save_plot
    from flowgen.pipeline import atomic, load

    if cfg.table.num_samples == 0:
        return
    steps = list(cfg.table.num_steps)
    student = load(folder, trust_code=bool(cfg.trust_code))
    if cfg.guidance_range is not None:
        student = student.guided(float(make(cfg.guidance, "guidance").scale))
    teacher = guided_teacher_of(cfg).to(student.device)
    data = data_set(cfg.data, LOADER_KEYS)
    setting = Setting(student, data, cfg.table.num_samples, cfg.table.seed, cfg.table.chunk)
    made = [make(node, f"table.measures.{name}") for name, node in cfg.table.measures.items()]
    measures = fitting(made, setting)
    rows = list(_rows(cfg, setting, student, teacher, steps, measures))
    say(rows_text([{k: v for k, v in row.items() if not k.endswith("_floor")} for row in rows]))
    say("rmse_to_teacher: distance to where the teacher takes the same noise, in model space")
    about = protocol(setting) | {"checkpoint": str(folder), "teacher": str(cfg.teacher)}
    for name in ("sampler", "grid", "steps", "evaluations_per_sample"):
        about.pop(name, None)
    with atomic(folder / NAME) as temporary:
        temporary.write_text(json.dumps({"rows": rows, "protocol": about}, indent=2) + "\n")
    picture = (folder / NAME).with_suffix(".png")
    save_plot(rows, picture, title=f"{data.name}, {setting.num_samples} samples")
    say(f"written: {folder / NAME}\nplot: {picture}")


def _rows(
    cfg: DictConfig, setting: Any, student: Any, teacher: Any, steps: list[int], measures: list[Any]
) -> Iterator[dict[str, Any]]:
    from flowgen.evaluation.measure import numbers, timed
    from flowgen.integrators import Euler, Heun, Sampler, Uniform
    from flowgen.metrics import rmse
    from flowgen.training import few_step

    best = Sampler(Heun(), Uniform(), cfg.table.reference_steps)
    compared = min(256, setting.num_samples)
    ends = teacher.with_sampler(best).sample(compared, seed=setting.seed, decode=False)
    one = [("teacher", teacher.with_sampler(Sampler(Euler(), Uniform(), n))) for n in steps]
    one.append(("teacher, best", teacher.with_sampler(best)))
    one += [("student", found) for found in few_step(student, steps)]
    for name, pipeline in one:
        row = {"sampler": name, "num_steps": pipeline.sampler.num_steps, "nfe": pipeline.nfe()}
        if pipeline.sampler.num_steps == 1 or not pipeline.sampler.stochastic:
            # Where noise is put in between, a sample has no partner of the teacher's.
            x_1 = pipeline.sample(compared, seed=setting.seed, decode=False)
            row["rmse_to_teacher"] = rmse(x_1, ends)
        figures, seconds = timed(measures, setting.of(pipeline))
        yield row | numbers(figures) | {"seconds": round(seconds, 3)}
