"""``flowgen fit-coupling``: fit semidiscrete transport from the source to a whole training set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from flowgen.cli.console import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from flowgen.core import Source
    from flowgen.couplings import SemidiscreteSolver


def run(cfg: DictConfig) -> Path:
    """Fit as ``cfg`` says and return the file of potentials.

    Args:
        cfg: The composed config of ``configs/fit_coupling.yaml``.

    Raises:
        InputError: If a number is out of range, or data and source do not fit.
        TrainingFailedError: If the masses did not become equal enough within the steps.
    """
    from flowgen.cli.assemble import data_set, make
    from flowgen.core import InputError, generator_for
    from flowgen.couplings import Potentials, SemidiscreteSolver
    from flowgen.couplings.potentials import told_by_noise
    from flowgen.data import DataSource
    from flowgen.pipeline import atomic

    if cfg.seed < 0:
        raise InputError(f"seed must be >= 0, got {cfg.seed}")
    solver = SemidiscreteSolver(
        batch=cfg.batch_size, max_steps=cfg.max_steps, threshold=cfg.threshold
    )
    data = data_set(cfg.data)
    out = Path(cfg.out).expanduser() if cfg.out else Path(f"coupling_{data.name}.safetensors")
    if out.suffix != ".safetensors":
        raise InputError(f"out={out}: potentials are written as .safetensors")
    if cfg.by_label and data.num_classes is None:
        raise InputError(f"by_label=true needs labels, and {data.name} has none")
    by_label = data.num_classes is not None if cfg.by_label is None else bool(cfg.by_label)
    cfg.facts.shape = list(data.codec.encoded_shape(data.shape))
    x_1, label, digest = training_set(data, cfg.device)
    source = make(cfg.source, "source")
    if isinstance(source, DataSource):
        source.codec = data.codec  # as in training: source and data in the same units
    check_shapes(source, x_1)
    generator = generator_for(cfg.seed, device=x_1.device)

    def sample(n: int) -> "Tensor":
        return source.sample(n, generator=generator, device=x_1.device)

    potential, worst = fitted(
        x_1,
        label if by_label else None,
        data,
        solver,
        sample,
        f"threshold={cfg.threshold} in {cfg.max_steps} steps",
    )
    noise = told_by_noise(source)
    found = Potentials(potential.cpu(), by_label, digest, data.name, worst, noise)
    with atomic(out) as temporary:
        found.save(temporary)
    say(
        f"written: {out}\nnext: flowgen train data={data.name} coupling=semidiscrete "
        f"coupling.file={out}"
    )
    return out


def check_shapes(source: "Source", x_1: "Tensor") -> None:
    """Look whether noise and data can be paired.

    Raises:
        InputError: If their samples differ in shape.
    """
    from flowgen.core import InputError, generator_for

    drawn = tuple(source.sample(1, generator=generator_for(0), device="cpu").shape[1:])
    if drawn != tuple(x_1.shape[1:]):
        raise InputError(
            f"source and data must have one shape, got {drawn} and {tuple(x_1.shape[1:])}"
        )


def fitted(
    points: "Tensor",
    label: "Tensor | None",
    data: Any,
    solver: "SemidiscreteSolver",
    sample: "Callable[[int], Tensor]",
    limits: str,
) -> "tuple[Tensor, float]":
    """Return the potential of every point and the worst chi-square, telling how it goes.

    Args:
        points: To share the source out to, ``(n, *d)``.
        label: Classes that are fitted on their own, or None.
        data: Whose names of labels are told.
        solver: Of one fit.
        sample: From a number to so many source samples.
        limits: What was asked for, to say if it is not reached.

    Raises:
        TrainingFailedError: If a fit did not reach the threshold.
    """
    from flowgen.core import TrainingFailedError

    potential = points.new_zeros(len(points))
    worst, unequal = 0.0, []
    for name, rows in _parts(data, label, len(points)):
        if len(rows) == 1:
            continue  # one cell is all there is
        fit = solver(points[rows], sample, told=_told(name, len(rows)))
        potential[rows] = fit.potential
        worst = max(worst, fit.chi2)
        if not fit.converged:
            unequal.append(name)
    if unequal:
        raise TrainingFailedError(
            f"the cells of {', '.join(unequal)} did not come below {limits}: nothing is written; "
            "raise max_steps, batch_size or threshold"
        )
    return potential, worst


def training_set(data: Any, device: str) -> "tuple[Tensor, Tensor | None, str]":
    """Return the samples in the model's space, their labels, and a digest of set and codec.

    Raises:
        InputError: If the data are augmented, or the device is not there.
    """
    import torch

    from flowgen.couplings import digest_of
    from flowgen.data import whole
    from flowgen.pipeline.checkpoint import pick_device

    chunks = list(whole(data.train))
    place = pick_device(device)
    x_1 = torch.cat([data.codec.encode(chunk["x_1"]) for chunk in chunks]).to(place)
    label = None
    if "label" in chunks[0]:
        label = torch.cat([chunk["label"] for chunk in chunks]).to(place)
    return x_1, label, digest_of(iter(chunks), data.codec.to_config())


def _parts(data: Any, label: Any, size: int) -> "list[tuple[str, Tensor]]":
    """Return the rows that are fitted together, by name."""
    import torch

    if label is None:
        return [(data.name, torch.arange(size))]
    names = data.label_names or [str(i) for i in range(data.num_classes)]
    parts = [(f"class {name}", (label == i).nonzero().flatten()) for i, name in enumerate(names)]
    return [(name, rows) for name, rows in parts if len(rows)]


def _told(name: str, size: int) -> Any:
    def told(step: int, chi2: float, error: float) -> None:
        say(f"{name} ({size} samples), step {step}: chi2 {chi2:.4f} +- {error:.4f}")

    return told
