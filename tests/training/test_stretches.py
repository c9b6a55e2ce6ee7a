"""Several steps in one call: the same run as with one step a call, and callbacks at their steps."""

import os
import signal

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from flowgen.couplings import Independent
from flowgen.data import ArraySplit, stream
from flowgen.pipeline.checkpoint import read_training_checkpoint
from flowgen.training import (
    Checkpoints,
    Interruption,
    PairLoader,
    Resume,
    StopRequested,
    Stretches,
    stretches,
)
from flowgen.training.loggers import MetricsFile
from flowgen.training.module import FlowModule
from flowgen.training.stretches import multiple_after
from runs import Counting, assert_same, flow, losses
from small import image_config

STEPS = 14


class Calls(Callback):
    """Notes the steps that it is called after."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *rest):
        self.seen.append(trainer.global_step)


class SometimesDue(Calls):
    """Must be called after multiples of four."""

    def next_due(self, step):
        return multiple_after(step, 4)


class InsideStep(Callback):
    """Notes the steps of the optimiser."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, *rest):
        self.seen.append(trainer.global_step)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr("flowgen.training.module.LONGEST", 60.0)


def make(**changes):
    """A module with a stateful coupling, momentum, dropout from the global generator."""
    settings = {"optimizer": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True), "micro_batch": 5}
    module = flow(image_config(), coupling=Counting(), **(settings | changes))
    network = module.pipeline.field.network
    network.register_forward_hook(lambda _, __, out: nn.functional.dropout(out, 0.1))
    return module


def train(folder, *callbacks, module=None, content=None, steps=STEPS, **more):
    module = module or make()
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (50, 1, 4, 4), generator=generator, dtype=torch.uint8)
    rows = stream(ArraySplit(x, torch.arange(50) % 3, flip=True), batch_size=12, seed=3)
    loader = Stretches(PairLoader(module, rows, batches=2, ahead=0))
    resume = [] if content is None else [Resume(content, loader.batch_sampler)]
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[Interruption(), *resume, *callbacks, Checkpoints(folder, every_n_steps=100)],
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=5,
        default_root_dir=folder,
        **more,
    )
    trainer.loggers = [MetricsFile(folder)]
    trainer.fit(module, loader)
    return module


def last(folder):
    return read_training_checkpoint(folder / "checkpoints" / "last.ckpt")


def assert_same_run(one, other):
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "training", "global_step")
    for part in parts:
        assert_same(last(one)[part], last(other)[part], part)
    assert losses(one) == losses(other)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A run with one step in a call, by Lightning's own way round backward and step."""
    folder = tmp_path_factory.mktemp("single")
    calls, inside = Calls(), InsideStep()
    train(folder, calls, inside)
    assert calls.seen == list(range(1, STEPS + 1))
    assert inside.seen == list(range(STEPS))
    return folder


def test_many_steps_in_a_call_are_the_same_run(single, tmp_path):
    calls = SometimesDue()
    train(tmp_path, calls)
    assert calls.seen == [4, 8, 12, 14]
    assert_same_run(single, tmp_path)


def test_a_call_ends_when_its_time_is_over(single, tmp_path, monkeypatch):
    monkeypatch.setattr("flowgen.training.module.LONGEST", 0.0)
    calls = SometimesDue()
    train(tmp_path, calls)
    assert calls.seen == list(range(1, STEPS + 1))
    assert_same_run(single, tmp_path)


@pytest.mark.parametrize("inside", [True, False])
def test_a_run_stopped_within_a_call_goes_on_exactly(single, tmp_path, monkeypatch, inside):
    learn = FlowModule.learn

    def stopping(self, batch):
        if inside and self.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        learn(self, batch)
        if not inside and self.global_step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(FlowModule, "learn", stopping)
    with pytest.raises(StopRequested):
        train(tmp_path)
    monkeypatch.setattr(FlowModule, "learn", learn)
    content = last(tmp_path)
    assert content["global_step"] == (6 if inside else 7)
    train(tmp_path, content=content)
    assert_same_run(single, tmp_path)


def test_a_skipped_step_moves_no_callback(tmp_path):
    calls, module = SometimesDue(), make()
    parameter = next(module.pipeline.field.parameters())
    parameter.register_hook(lambda grad: grad * (torch.inf if module.batches_seen == 2 else 1))
    train(tmp_path, calls, module=module)
    assert calls.seen == [4, 8, 12, 14]
    assert (module.guard.skipped, module.batches_seen) == (1, STEPS + 1)


def test_pairs_are_made_without_automatic_precision(tmp_path):
    found = []

    class Watching(Independent):
        def __call__(self, pair, *, generator=None):
            found.append(torch.is_autocast_enabled("cpu"))
            return super().__call__(pair, generator=generator)

    calls = SometimesDue()
    module = flow(image_config(), coupling=Watching())
    train(tmp_path, calls, module=module, precision="bf16-mixed")
    assert calls.seen == [4, 8, 12, 14]
    assert not any(found)


def test_a_limit_of_batches_is_one_of_steps(tmp_path):
    calls = SometimesDue()
    train(tmp_path, calls, limit_train_batches=3, steps=6)
    assert calls.seen == [1, 2, 3, 4, 5, 6]


def test_the_next_multiple():
    assert [multiple_after(step, 4) for step in (0, 3, 4)] == [4, 4, 8]
    assert multiple_after(9, 4, 5, None) == 10
    assert multiple_after(9, None) is None
    assert isinstance(Checkpoints("x"), stretches.Due)
