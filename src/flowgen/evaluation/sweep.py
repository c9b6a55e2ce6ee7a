"""Quality against cost: the same noise through several samplers at several numbers of steps.

The most telling cheap figure needs no data: how far a sample is from where the same noise ends up
when the ODE is solved finely. It is an error of the solver alone, in units of model space;
distances to data add what the model itself gets wrong. A stochastic sampler has no such partner.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowgen.core import InputError, VelocityField
from flowgen.evaluation.measure import Measure, numbers, timed
from flowgen.evaluation.setting import Setting
from flowgen.integrators import RK4, Adaptive, Counted, Sampler, Uniform
from flowgen.integrators.noise import Noise
from flowgen.metrics import LPIPS, psnr, rmse, ssim
from flowgen.metrics.lpips import MIN_SIDE
from flowgen.metrics.paired import SSIM_WINDOW
from flowgen.models import PredictionField
from flowgen.pipeline import Pipeline

Row = dict[str, Any]


@dataclass(frozen=True)
class Fine:
    """The solution that the samplers are compared with, by RK4.

    Args:
        num_steps: Steps, >= 2; the figures state what half as many would change.
        num_samples: Samples that are compared, >= 1.

    Raises:
        InputError: If a number is too small.
    """

    num_steps: int = 64
    num_samples: int = 64

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("num_steps", 2), ("num_samples", 1)):
            if getattr(self, name) < least:
                raise InputError(f"fine.{name} must be >= {least}, got {getattr(self, name)}")

    def __str__(self) -> str:
        return (
            f"rk4, {self.num_steps} uniform steps, {4 * self.num_steps} evaluations, "
            f"{self.num_samples} samples; floor: what half the steps change"
        )


@dataclass(frozen=True)
class Solved:
    """End points of the same numbers, and what they cost.

    Args:
        x_1: In model space ``(n, *d)``, on the CPU.
        nfe: Evaluations of the (guided) field by the solver, for a whole chunk each; the largest
            of all chunks.
        rows: Rows that passed through networks, for each sample: 2 for an evaluation under
            classifier-free guidance.
    """

    x_1: Tensor
    nfe: int
    rows: float


def variants(
    samplers: Mapping[str, Sampler], num_steps: Sequence[int]
) -> list[tuple[str, Sampler]]:
    """Return every sampler at every number of steps, by name; adaptive ones once.

    Args:
        samplers: By name.
        num_steps: Empty for each sampler's own.

    Raises:
        InputError: If a sampler cannot take as many steps.
    """
    found = []
    for name, sampler in samplers.items():
        adaptive = isinstance(sampler.stepper, Adaptive)
        for steps in (sampler.num_steps,) if adaptive or not num_steps else num_steps:
            try:
                found.append((name, sampler.with_num_steps(steps)))
            except InputError as error:
                raise InputError(f"{name} with num_steps={steps}: {error}") from error
    return found


def sweep(
    setting: Setting,
    variants: Sequence[tuple[str, Sampler]],
    measures: Sequence[Measure],
    fine: Fine,
    *,
    lpips: LPIPS | None = None,
) -> Iterator[Row]:
    """Yield a row for each sampler: its cost, its error as a solver, and its figures.

    Columns: ``sampler``, ``num_steps``, ``nfe`` (evaluations of the field that is integrated),
    ``rmse_to_fine`` with its floor, for images ``psnr_to_fine`` and ``ssim_to_fine``, the floats of
    all measures, ``network_rows`` (rows through networks for each sample: twice ``nfe`` where every
    evaluation is guided) and ``seconds`` of drawing the samples.

    Args:
        setting: What is evaluated; its own sampler is not used.
        variants: From :func:`variants`.
        measures: Of samples; all must fit.
        fine: What the samplers are compared with.
        lpips: Also gives ``lpips_to_fine`` of images of 31 pixels or more.

    Raises:
        InputError: If a stochastic sampler meets a model whose score is not known.
    """
    pipeline = setting.pipeline
    settings = [setting.of(pipeline.with_sampler(sampler)) for _, sampler in variants]
    reference = _solved(setting, Sampler(RK4(), Uniform(), fine.num_steps), fine.num_samples)
    half = _solved(setting, Sampler(RK4(), Uniform(), fine.num_steps // 2), fine.num_samples)
    floor = rmse(half.x_1, reference.x_1)
    for (name, sampler), own in zip(variants, settings, strict=True):
        solved = _solved(setting, sampler, fine.num_samples)
        row: Row = {"sampler": name, "num_steps": sampler.num_steps, "nfe": solved.nfe}
        if not sampler.stochastic:
            row["rmse_to_fine"] = rmse(solved.x_1, reference.x_1)
            row["rmse_to_fine_floor"] = floor
            if setting.images:
                row |= _image_figures(pipeline, solved.x_1, reference.x_1, lpips)
        if measures:
            figures, seconds = timed(measures, own)
            row |= numbers(figures)
            row["seconds"] = round(seconds, 3)
        row["network_rows"] = solved.rows
        yield row


def _solved(setting: Setting, sampler: Sampler, num_samples: int) -> Solved:
    """Return the end points of the first samples; every process computes them all."""
    pipeline = setting.pipeline.with_sampler(sampler)

    @torch.no_grad()
    def solve(part: range) -> tuple[Tensor, int, float]:
        field = Counted(pipeline.velocity())
        x_0 = pipeline.noise(setting.seed, part) * pipeline.initial_scale
        cond = pipeline.conditions(part, setting.asked)
        noise = Noise(setting.seed, part) if sampler.stochastic else None
        with _counted_rows(field.field) as count:
            x_1 = sampler.sample(field, x_0, cond, noise=noise)
        return x_1.cpu(), field.nfe, count[0] / len(part)

    training = pipeline.field.training
    pipeline.field.eval()
    try:
        parts = list(setting.chunks.over(range(num_samples), solve))
    finally:
        pipeline.field.train(training)
    rows = sum(rows * len(x) for x, _, rows in parts) / num_samples
    return Solved(torch.cat([x for x, _, _ in parts]), max(nfe for _, nfe, _ in parts), rows)


@contextmanager
def _counted_rows(field: VelocityField) -> Iterator[list[int]]:
    """Count the rows that pass through every network of a field, a weaker guide's included."""
    count = [0]

    def add(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        count[0] += len(args[0])

    modules = field.modules() if isinstance(field, nn.Module) else ()
    handles = [
        module.network.register_forward_pre_hook(add)
        for module in modules
        if isinstance(module, PredictionField)
    ]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()


def _image_figures(pipeline: Pipeline, x: Tensor, y: Tensor, lpips: LPIPS | None) -> Row:
    device = pipeline.device
    images, others = (pipeline.codec.decode(side.to(device)).cpu() for side in (x, y))
    row: Row = {"psnr_to_fine": psnr(images, others)}
    if min(images.shape[-2:]) >= SSIM_WINDOW:
        row["ssim_to_fine"] = ssim(images, others)
    if lpips is not None and min(images.shape[-2:]) >= MIN_SIDE:
        row["lpips_to_fine"] = float(lpips(images, others).mean())
    return row
