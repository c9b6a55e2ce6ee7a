"""Loss and gradient of a batch as one compiled graph, for networks so small that calls cost most.

The objective is run once down to torch's operations and written down with its backward pass:
weights and pairs become inputs, and so does what it draws, which is drawn outside, in the same
order from the same generators. So a run has the batches, times and dropout that it has without, and
its weights but for rounding. The first batches are computed in the plain way as well and compared,
for a graph that had kept a number of the batch it was written down from would train without a word.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from flowgen.core import InputError, Loss, Objective, Pair, VelocityField
from flowgen.training.draw_plan import Given, Plan

COMPARED = 2
"""Batches of each shape that are computed in the plain way as well."""

TOLERANCE = 1e-2
"""Largest distance of the two gradients, relative to their norm; rounding stays far below."""


@dataclass(frozen=True)
class _Total(Loss):
    """A loss whose mean is known."""

    known: Tensor = field(default_factory=lambda: torch.zeros(()))

    def total(self) -> Tensor:
        """Return the mean, which has been differentiated."""
        return self.known


class OneGraph:
    """An objective that is computed, and differentiated, by one compiled graph for each shape.

    It is called as the objective is, and leaves the gradient of the loss with the weights.

    Args:
        objective: Whose attribute ``steady`` says that every step computes the same.
        field: What it trains; both on a CPU.

    Raises:
        InputError: If the objective is not steady.
    """

    def __init__(self, objective: Objective, field: nn.Module) -> None:
        if not getattr(objective, "steady", False):
            raise InputError(
                f"compile=step needs an objective that computes the same at every step, which "
                f"{type(objective).__name__} does not say of itself: use compile=true"
            )
        self._both = _Both(objective, field)
        learnt = {n: p for n, p in self._both.named_parameters() if p.requires_grad}
        self._names, self._weights = list(learnt), list(learnt.values())
        self._graphs: dict[Any, _Graph] = {}

    def __call__(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator,
    ) -> Loss:
        """Return the loss of a batch; the gradients of the weights are then those of its mean.

        Args:
            model: The field that this was built with.
            pair: Coupled source and data, each ``(b, *d)``.
            step: Unused: every step is the same.
            generator: Of the objective's draws.

        Raises:
            InputError: If the objective or the network cannot be written down as a graph, or the
                graph computes something else than they do.
        """
        del model, step
        inputs = _inputs(pair)
        key = tuple((each.shape, each.dtype) for each in inputs.values()), tuple(inputs)
        graph = self._graphs.get(key)
        if graph is None:
            with _unmoved(generator) as copy:
                graph = self._graphs[key] = self._written_down(pair, copy)
        plain = None
        if graph.compared < COMPARED:
            with _unmoved(generator) as copy:
                plain = self._plain(pair, copy)
            graph.compared += 1
        found = graph(self._weights, inputs, generator)
        if plain is not None:
            _compare(*plain, found)
        for weight, gradient in zip(self._weights, found.gradients, strict=True):
            weight.grad = gradient
        return _Total(found.value, pair, found.t, found.terms, found.total)

    def _plain(self, pair: Pair, generator: torch.Generator) -> tuple[Tensor, Sequence[Any]]:
        total = self._both(pair, generator).total()
        return total.detach(), torch.autograd.grad(total, self._weights, allow_unused=True)

    def _written_down(self, pair: Pair, generator: torch.Generator) -> "_Graph":
        plan = Plan()
        with plan:
            terms = list(self._both(pair, generator).terms)
        drawn = plan.draw(generator)
        names = list(_inputs(pair))

        def whole(
            weights: list[Tensor], rows: list[Tensor], drawn: list[Tensor]
        ) -> tuple[list[Tensor], Sequence[Tensor | None]]:
            given = dict(zip(self._names, weights, strict=True))
            batch = _pair(dict(zip(names, rows, strict=True)))
            with Given(drawn):
                loss: Loss = torch.func.functional_call(self._both, given, (batch, generator))
            total = loss.total()
            gradients = torch.autograd.grad(total, weights, allow_unused=True)
            return [total, loss.value, loss.t, *(loss.terms[n] for n in terms)], gradients

        weights = [each.detach().requires_grad_() for each in self._weights]
        try:
            written = make_fx(whole)(weights, list(_inputs(pair).values()), drawn)
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(
                f"compile=step cannot write this network and objective down as one graph: "
                f"{reason[0]}. Use compile=true or compile=false"
            ) from error
        written.graph.eliminate_dead_code()
        written.recompile()
        return _Graph(compiled(written), plan, terms)


def compiled(graph: nn.Module) -> Callable[..., Any]:
    """Return a graph as machine code, called with no Python between its operations."""
    return torch.compile(graph, fullgraph=True, dynamic=False, options={"cpp_wrapper": True})


class _Both(nn.Module):
    """Objective and field as one module, whose weights can be given from outside."""

    def __init__(self, objective: Objective, field: nn.Module) -> None:
        super().__init__()
        self.objective = objective
        self.field = field

    def forward(self, pair: Pair, generator: torch.Generator) -> Loss:
        return self.objective(cast("VelocityField", self.field), pair, generator=generator)


class _Outcome(NamedTuple):
    total: Tensor
    value: Tensor
    t: Tensor
    terms: dict[str, Tensor]
    gradients: Sequence[Tensor | None]


@dataclass
class _Graph:
    compiled: Callable[..., tuple[list[Tensor], Sequence[Tensor | None]]]
    plan: Plan
    terms: list[str]
    compared: int = 0

    @torch.no_grad()
    def __call__(
        self, weights: list[nn.Parameter], inputs: Mapping[str, Tensor], generator: torch.Generator
    ) -> _Outcome:
        plain = [each.detach() for each in weights]
        drawn = self.plan.draw(generator)
        numbers, gradients = self.compiled(plain, list(inputs.values()), drawn)
        total, value, t, *terms = numbers
        return _Outcome(total, value, t, dict(zip(self.terms, terms, strict=True)), gradients)


@contextlib.contextmanager
def _unmoved(generator: torch.Generator) -> Iterator[torch.Generator]:
    """Give a copy of a generator, and put the global one back afterwards."""
    with torch.random.fork_rng(devices=[]):
        yield torch.Generator(generator.device).set_state(generator.get_state())


def _inputs(pair: Pair) -> dict[str, Tensor]:
    found = {"x_0": pair.x_0, "x_1": pair.x_1}
    found |= {f"cond.{name}": value for name, value in (pair.cond or {}).items()}
    return found if pair.weight is None else {**found, "weight": pair.weight}


def _pair(inputs: Mapping[str, Tensor]) -> Pair:
    cond = {n.removeprefix("cond."): v for n, v in inputs.items() if n.startswith("cond.")}
    return Pair(inputs["x_0"], inputs["x_1"], cond or None, inputs.get("weight"))


def _compare(total: Tensor, gradients: Sequence[Tensor | None], found: _Outcome) -> None:
    """See that the graph computes what is computed without it."""
    squares = distance = 0.0
    for plain, ours in zip(gradients, found.gradients, strict=True):
        if (plain is None) != (ours is None):
            raise _differs()
        if plain is not None and ours is not None:
            squares += float(plain.double().square().sum())
            distance += float((plain - ours).double().square().sum())
    # A batch that is not finite is told by the step.
    if not torch.isfinite(total) or not torch.isfinite(torch.tensor(squares)):
        return
    apart = abs(float(total - found.total)) > TOLERANCE * abs(float(total))
    if apart or distance > TOLERANCE**2 * squares:
        raise _differs()


def _differs() -> InputError:
    return InputError(
        "compile=step computes another gradient than the objective does without it, so this "
        "objective or network is not the same at every step: use compile=true or compile=false"
    )
