"""One graph computes what the objective does, with its draws, and is refused where it would not."""

import shutil

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from flowgen.core import InputError, Loss, Pair, TrainingFailedError, debug_checks, generator_for
from flowgen.objectives import FlowMatching, Uniform
from flowgen.paths import AffinePath, Linear
from flowgen.training import one_graph
from flowgen.training.one_graph import OneGraph
from runs import Counting, Rows, flow
from small import image_config

MATRIX = AffinePath(Linear())


@pytest.fixture(autouse=True)
def unchecked():
    """Values are not looked at inside a graph; the command refuses to be asked for it."""
    with debug_checks(False):
        yield


@pytest.fixture
def plainly(monkeypatch):
    """Graphs as they are written down, which takes no minute."""
    monkeypatch.setattr(one_graph, "compiled", lambda graph: graph)


def module(**changes):
    """A module with a stateful coupling, labels that drop out, and dropout of its network."""
    settings = {"optimizer": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True)}
    made = flow(image_config(), coupling=Counting(), **(settings | changes))
    network = made.pipeline.field.network
    network.register_forward_hook(lambda _, __, out: nn.functional.dropout(out, 0.1))
    return made


def trained(made, steps=6, rows=None):
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(made, torch.utils.data.DataLoader(rows or Rows(images=True), batch_size=None))
    return made


def with_graph(**changes):
    made = module(**changes)
    made.use_one_graph(Rows(images=True).batch, 12)
    return made


def assert_close(one, other):
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_run_has_the_same_weights(plainly):
    """Averaged weights as well; draws, state of the coupling and optimiser are those without."""
    one, other = trained(module()), trained(with_graph())
    assert_close(one, other)
    assert one.batches_seen == other.batches_seen == 6
    assert one.coupling_state == other.coupling_state == {"count": 6}
    moved = [not torch.equal(a, b) for a, b in zip(one.learnt(), module().learnt(), strict=True)]
    assert all(moved)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_too():
    # Adam would make a step of a gradient that is rounding.
    plain = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1)}
    assert_close(trained(module(**plain)), trained(with_graph(**plain)))


def small_field():
    torch.manual_seed(0)
    return Field().double()


class Field(nn.Module):
    """A field of the plane, with a part that no loss sees."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.unseen = nn.Linear(2, 2)

    def forward(self, x, t, cond=None):
        return self.layer(torch.cat([x, t[:, None]], dim=1)).tanh()


def pair(count=16, seed=0, weight=None):
    generator = generator_for(seed)
    x_0, x_1 = (
        torch.randn(count, 2, generator=generator, dtype=torch.float64) + shift for shift in (0, 1)
    )
    return Pair(x_0, x_1, None, weight)


def gradients(field):
    return [p.grad for p in field.parameters()]


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_gradient_are_those_of_the_objective(plainly, weighted):
    field, objective = small_field(), FlowMatching(MATRIX, Uniform())
    graph = OneGraph(objective, field)
    for seed, count in ((0, 16), (1, 16), (2, 16), (3, 9), (4, 16)):
        weight = torch.linspace(0.1, 1.9, count, dtype=torch.float64) if weighted else None
        batch = pair(count, seed, weight)
        found = graph(field, batch, generator=generator_for(seed, 1))
        ours = gradients(field)
        field.zero_grad()
        plain = objective(field, batch, generator=generator_for(seed, 1))
        plain.total().backward()
        torch.testing.assert_close(found.total(), plain.total().detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(found.value, plain.value.detach(), rtol=1e-12, atol=1e-15)
        assert torch.equal(found.t, plain.t)
        for mine, theirs in zip(ours, gradients(field), strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-14)
        assert not found.total().requires_grad


def test_a_number_that_should_change_is_noticed_when_it_stays(plainly):
    class Frozen(FlowMatching):
        def forward(self, model, pair, *, step=0, generator=None):
            loss = super().forward(model, pair, generator=generator)
            self.scale = getattr(self, "scale", 0.0) + 1.0
            return Loss(loss.value * self.scale, pair, loss.t)

    graph = OneGraph(Frozen(MATRIX, Uniform()), small_field())
    with pytest.raises(InputError, match="another gradient than the objective"):
        graph(small_field(), pair(), generator=generator_for(0))


def read(value, generator):
    return value * float(value.detach().mean())


def drawn(value, generator):
    return value * torch.bernoulli(value.detach().sigmoid(), generator=generator)


@pytest.mark.parametrize(
    ("factor", "message"),
    [(read, "cannot write this network"), (drawn, "cannot draw bernoulli before the batch")],
)
def test_what_is_no_graph_is_refused(plainly, factor, message):
    class Other(FlowMatching):
        def forward(self, model, pair, *, step=0, generator=None):
            loss = super().forward(model, pair, generator=generator)
            return Loss(factor(loss.value, generator), pair, loss.t)

    graph = OneGraph(Other(MATRIX, Uniform()), small_field())
    with pytest.raises(InputError, match=message):
        graph(small_field(), pair(), generator=generator_for(0))


def test_an_objective_must_say_that_it_is_steady():
    class Warming:
        def __call__(self, model, pair, *, step=0, generator=None):
            return Loss(pair.x_0.sum(1) * step, pair, pair.x_0[:, 0])

    with pytest.raises(InputError, match="Warming does not say of itself"):
        OneGraph(Warming(), small_field())


def test_generators_go_on_as_without(plainly):
    """The batches that are compared draw from copies."""
    graph = OneGraph(FlowMatching(MATRIX, Uniform()), small_field())
    mine, theirs = generator_for(5), generator_for(5)
    outer = torch.get_rng_state()
    for seed in range(4):
        graph(small_field(), pair(seed=seed), generator=mine)
        Uniform()(16, generator=theirs)
        assert torch.equal(mine.get_state(), theirs.get_state())
    assert torch.equal(torch.get_rng_state(), outer)


def test_a_step_that_is_not_finite_is_skipped_and_its_layer_told(plainly):
    class Broken(Rows):
        def __getitem__(self, index):
            batch = super().__getitem__(index)
            return {**batch, "x_0": torch.full((12, 1, 4, 4), 3e38)}

    made = with_graph()
    before = [p.clone() for p in made.learnt()]
    made.guard.patience = 3
    with pytest.raises(TrainingFailedError, match="first in the output of"):
        trained(made, rows=Broken(images=True))
    assert made.guard.skipped == 3
    assert all(torch.equal(a, b) for a, b in zip(before, made.learnt(), strict=True))
