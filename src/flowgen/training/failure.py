"""The end of a run that cannot go on: find what broke, keep the batch, say it in one line.

The file holds what is needed to repeat the batch exactly, on any device: its pairs, the weights,
and every random number that was drawn. Plain values and tensors only.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from flowgen.core import Pair, TrainingFailedError, is_out_of_memory
from flowgen.pipeline import atomic
from flowgen.training.diagnosis import Layers, bins_not_finite, watched, weights_not_finite
from flowgen.training.draws import Record, Repeat
from flowgen.training.phases import Phases, WallClock
from flowgen.training.processes import Processes
from flowgen.training.time_bins import TimeBins

if TYPE_CHECKING:
    from flowgen.training.module import FlowModule

FORMAT = 2
"""Of the file; ``flowgen_replay`` in it."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a batch.

    Args:
        loss: Mean loss of each time bin over the finite rows, shape ``(num_bins,)``.
        bins: Time bins with losses that are not finite, in order.
        rows: Rows of the data that are not finite, in order.
        layers: First layers that are not finite, and the largest values of all.
        weights: Parameters that are not finite already.
        overflow: Whether the norm of the gradient is not finite.
        draws: All random numbers of the batch, in order.
    """

    loss: Tensor
    bins: list[int]
    rows: list[int]
    layers: Layers
    weights: list[str]
    overflow: bool
    draws: list[Tensor] = field(default_factory=list)

    @property
    def finite(self) -> bool:
        """Whether nothing was found."""
        broken = self.bins or self.rows or self.weights or self.overflow
        return not broken and self.layers.forward is None and self.layers.backward is None

    @property
    def times(self) -> list[str]:
        """The time bins with losses that are not finite, neighbours joined: ``0.3-0.5``."""
        count, spans = len(self.loss), []
        for i in self.bins:
            if spans and spans[-1][1] == i:
                spans[-1][1] = i + 1
            else:
                spans.append([i, i + 1])
        return [f"{start / count:.1f}-{end / count:.1f}" for start, end in spans]

    def line(self) -> str:
        """Return what broke, in a few words."""
        if self.weights:
            return f"the weights of {self.weights[0]} are not finite themselves"
        if self.rows:
            named = ", ".join(map(str, self.rows[:5])) + (", ..." if len(self.rows) > 5 else "")
            return f"the data are not finite in {len(self.rows)} rows of the batch ({named})"
        when = f"in the times {', '.join(self.times)}, " if self.bins else ""
        if self.layers.forward is not None:
            return f"{when}first in the output of {_layer(self.layers.forward)}"
        if self.bins:
            return f"{when}in the loss alone: the output of every layer is finite"
        if self.layers.backward is not None:
            return f"first in the gradient made by {_layer(self.layers.backward)}"
        if self.overflow:
            return "in the norm of the gradient: its square is too large for a number"
        return "and nothing to be seen when the batch is repeated"


def diagnose(
    module: "FlowModule",
    pair: Pair,
    step: int,
    draws: Iterable[Tensor] | None = None,
) -> Diagnosis:
    """Repeat a batch with every layer watched; weights and gradients stay.

    Args:
        module: At the number of the batch (``batches_seen``).
        pair: Of the batch, on the device of the module.
        step: The optimiser step of the batch.
        draws: The random numbers to use, of an earlier diagnosis; None draws them by the number.
    """
    field = module.pipeline.field
    parameters = [p for p in field.parameters() if p.requires_grad]
    means = TimeBins(module.step_log.num_bins, module.device)
    bins: set[int] = set()
    squares = torch.zeros((), device=module.device)
    record = Record()
    given: AbstractContextManager[Any] = nullcontext() if draws is None else Repeat(draws)
    # Hooks on the layers of a compiled network are not called.
    with torch.compiler.set_stance("force_eager"), watched(field) as layers, given, record:
        sums: list[Tensor | None] = [None] * len(parameters)
        for loss, share, _ in module.passes(pair, Phases(WallClock()), step):
            # Unlike backward() this leaves alone what data-parallel training hangs on gradients.
            found = torch.autograd.grad(share, parameters, allow_unused=True)
            sums = [_plus(a, b) for a, b in zip(sums, found, strict=True)]
            means.add(loss.detached())
            bins.update(bins_not_finite(loss, module.step_log.num_bins))
        for gradient in sums:
            if gradient is not None:
                squares = squares + gradient.square().sum()
    return Diagnosis(
        means.means().cpu(),
        sorted(bins),
        _rows_not_finite(pair),
        layers,
        weights_not_finite(field),
        not bool(squares.isfinite()),
        record.drawn,
    )


def fail(module: "FlowModule", pair: Pair, step: int) -> NoReturn:
    """Keep the batch that was just skipped and end the run; every process must call it.

    Of several processes the first whose own batch is not finite tells and keeps.

    Raises:
        TrainingFailedError: Naming time bins, layer and file.
    """
    module.batches_seen -= 1  # the batch was counted already
    processes = Processes(module.trainer)
    # The run ends here: from now on each process does without the others.
    module.pipeline = module.pipeline.with_field(module.whole(module.pipeline.field))
    found, broken, line = _found(module, pair, step)
    reports = processes.gather((broken, line))
    teller = next((rank for rank, (is_broken, _) in enumerate(reports) if is_broken), 0)
    told = (
        f"{module.guard.in_a_row} steps in a row had a loss or gradient that is not finite, "
        f"{reports[teller][1]}"
    )
    if module.nonfinite is not None:
        path = module.nonfinite / f"step_{step:07d}.pt"
        kept = ""
        if module.global_rank == teller:
            kept = _keep(module, pair, step, [] if found is None else found.draws, path)
        told += processes.gather(kept)[teller]
    raise TrainingFailedError(told)


def _found(module: "FlowModule", pair: Pair, step: int) -> tuple[Diagnosis | None, bool, str]:
    """Return the diagnosis, whether it found something, and its line."""
    try:
        found = diagnose(module, pair, step)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None, False, "and memory does not suffice to look for the layer"
    return found, not found.finite, found.line()


def _keep(module: "FlowModule", pair: Pair, step: int, draws: list[Tensor], path: Path) -> str:
    """Write what repeats a batch exactly, atomically, and return what to say of it."""
    state = module.pipeline.field.state_dict()
    content: dict[str, Any] = {
        "flowgen_replay": FORMAT,
        "pair": {name: value.cpu() for name, value in _tensors(pair).items()},
        "cond": {name: value.cpu() for name, value in (pair.cond or {}).items()},
        "state_dict": {name: value.cpu() for name, value in state.items()},
        "draws": draws,
        "seed": module.seed,
        "number": module.batches_seen,
        "rank": module.global_rank,
        "step": step,
        "precision": str(module.trainer.precision),
        "device": str(module.device),
    }
    try:
        with atomic(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:
        # torch tells of a full disk by an error of its own.
        return f"; the batch cannot be kept in {path} ({' '.join(str(error).split())[:100]})"
    return f"; look at the batch with: flowgen replay {path}"


def _tensors(pair: Pair) -> dict[str, Tensor]:
    found = {"x_0": pair.x_0, "x_1": pair.x_1}
    return found if pair.weight is None else found | {"weight": pair.weight}


def _rows_not_finite(pair: Pair) -> list[int]:
    bad: set[int] = set()
    for value in _tensors(pair).values():
        if value.is_floating_point():
            bad.update((~value.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist())
    return sorted(bad)


def _layer(name: str) -> str:
    return f"layer {name}" if name else "the conversion to a velocity, after the network"


def _plus(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
