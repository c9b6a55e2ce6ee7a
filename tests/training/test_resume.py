"""A run goes on exactly: in one process, with the parts of the library alone."""

import csv
import errno
import os
import signal
from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from flowgen.core import InputError
from flowgen.data import ArraySplit, stream
from flowgen.pipeline import load
from flowgen.pipeline.checkpoint import read_training_checkpoint
from flowgen.training import Checkpoints, Interruption, Resume, StopRequested
from flowgen.training.loggers import MetricsFile
from runs import Counting, assert_same, flow, losses
from small import image_config

STEPS = 9


class Act(Callback):
    """Does something after a step."""

    def __init__(self, step, action):
        self.step = step
        self.action = action

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            self.action()


def make():
    """A module with a stateful coupling, momentum, and dropout from the global generator."""
    module = flow(
        image_config(),
        coupling=Counting(),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2),
        micro_batch=5,
    )
    network = module.pipeline.field.network
    network.register_forward_hook(lambda _, __, out: nn.functional.dropout(out, 0.1))
    return module


def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (50, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return ArraySplit(x, torch.arange(50) % 3, flip=True)


def train(folder, *callbacks, steps=STEPS, content=None, module=None, num_workers=0, **settings):
    module = module or make()
    batches = stream(data(), batch_size=12, seed=3, num_workers=num_workers)
    settings = {"every_n_steps": 100} | settings
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[
            Interruption(),
            *([] if content is None else [Resume(content, batches.batch_sampler)]),
            *callbacks,
            Checkpoints(folder, **settings),
        ],
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=4,
        default_root_dir=folder,
    )
    trainer.loggers = [MetricsFile(folder)]
    trainer.fit(module, batches)
    return module


def last(folder):
    return read_training_checkpoint(folder / "checkpoints" / "last.ckpt")


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def kill(signum):
    return lambda: os.kill(os.getpid(), signum)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    train(folder)
    return folder


PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "training")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 5])
def test_a_stopped_run_ends_like_one_that_was_not(stop, num_workers, whole, tmp_path):
    torch.manual_seed(0)
    with pytest.raises(StopRequested, match="SIGTERM"):
        train(tmp_path, Act(stop, kill(signal.SIGTERM)))
    assert last(tmp_path)["global_step"] == stop
    torch.manual_seed(77)
    train(tmp_path, content=last(tmp_path), num_workers=num_workers)
    for part in PARTS:
        assert_same(last(whole)[part], last(tmp_path)[part], part)
    assert losses(whole) == losses(tmp_path)


def test_without_its_state_a_run_ends_elsewhere(whole, tmp_path):
    """The comparison above sees each part of the state."""
    torch.manual_seed(0)
    with pytest.raises(StopRequested):
        train(tmp_path, Act(5, kill(signal.SIGTERM)))
    own = last(tmp_path)["training"]["processes"][0]
    for name, value in (("coupling", None), ("batches_seen", 4)):
        content = last(tmp_path)
        broken = own | {"module": own["module"] | {name: value}}
        content["training"] = content["training"] | {"processes": [broken]}
        (tmp_path / name).mkdir()
        train(tmp_path / name, content=content)
        with pytest.raises(AssertionError):
            assert_same(last(whole)["state_dict"], last(tmp_path / name)["state_dict"])


def test_other_data_are_refused(whole, tmp_path):
    content = last(whole)
    content["training"]["samples"] = 51
    with pytest.raises(InputError, match="has 50 samples and had 51"):
        train(tmp_path, content=content)


def test_weights_alone_are_no_run_to_go_on_with(whole, tmp_path):
    content = last(whole)
    del content["training"]
    with pytest.raises(InputError, match="no state to go on from"):
        train(tmp_path, content=content)


def test_more_steps_follow_the_new_schedule(tmp_path):
    def module(total):
        from flowgen.training import warmup_cosine

        made = make()
        made.make_lr_schedule = lambda o: warmup_cosine(o, total_steps=total)
        return made

    train(tmp_path, module=module(4), steps=4)
    train(tmp_path, module=module(8), steps=8, content=last(tmp_path))
    rates = [float(row["lr"]) for row in csv.DictReader((tmp_path / "metrics.csv").open())]
    # At step 4 of 4 the rate was zero, and after step 8 of 8 it is again.
    assert rates == pytest.approx([0.0, 0.0])
    train(tmp_path, module=module(8), steps=6, content=last(tmp_path))
    assert last(tmp_path)["global_step"] == 8  # nothing left to do


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_inside_a_step_waits_for_its_end(signum, tmp_path):
    module = make()
    module.pipeline.field.register_forward_pre_hook(
        lambda *_: kill(signum)() if module.batches_seen == 2 else None
    )
    # Two micro-batches would ask twice, and a second Ctrl-C ends at once.
    module.micro_batch = None
    with pytest.raises(StopRequested) as caught:
        train(tmp_path, module=module)
    assert caught.value.signum == signum
    content = last(tmp_path)
    assert content["global_step"] == 3
    assert content["training"]["processes"][0]["module"]["batches_seen"] == 3


def test_a_signal_between_steps_is_obeyed_at_once(tmp_path):
    after = []

    def long_evaluation():
        kill(signal.SIGTERM)()
        after.append("it went on")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StopRequested):
        train(tmp_path, Act(2, long_evaluation))
    assert after == []
    assert last(tmp_path)["global_step"] == 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_interrupt_ends_at_once_and_saves_nothing(tmp_path):
    module = make()

    def twice(*_):
        if module.batches_seen == 2:
            kill(signal.SIGINT)()
            kill(signal.SIGINT)()

    module.pipeline.field.register_forward_pre_hook(twice)
    with pytest.raises(SystemExit):  # Lightning's answer to KeyboardInterrupt
        train(tmp_path, module=module)
    assert last(tmp_path)["global_step"] == 0


def test_copies_are_kept_as_told(tmp_path):
    for name, settings, kept in (
        ("a", {}, [8, 9]),
        ("b", {"keep_last": 0}, []),
        ("c", {"keep_last": 3}, [6, 8, 9]),
        ("d", {"keep_last": 1, "keep_every": 3}, [3, 6, 9]),
        ("e", {"keep_last": 1, "every_n_steps": None}, [9]),
    ):
        (tmp_path / name).mkdir()
        train(tmp_path / name, **({"every_n_steps": 2} | settings))
        copies = [f"step_{step:07d}.ckpt" for step in kept]
        assert names(tmp_path / name) == ["last.ckpt", *copies]
    copy = read_training_checkpoint(tmp_path / "c" / "checkpoints" / "step_0000006.ckpt")
    assert copy["global_step"] == 6


def test_copies_share_the_bytes_of_the_newest_where_the_disk_can(tmp_path, monkeypatch):
    train(tmp_path, steps=2)
    one, two = (tmp_path / "checkpoints" / f"{n}.ckpt" for n in ("last", "step_0000002"))
    assert one.samefile(two)

    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "copied").mkdir()
    train(tmp_path / "copied", steps=2)
    one, two = (tmp_path / "copied" / "checkpoints" / p.name for p in (one, two))
    assert not one.samefile(two)
    assert one.read_bytes() == two.read_bytes()


def test_copies_of_a_future_that_was_left_do_not_count(tmp_path):
    train(tmp_path, every_n_steps=2)
    content = read_training_checkpoint(tmp_path / "checkpoints" / "step_0000008.ckpt")
    content["training"]["processes"][0]["module"]["batches_seen"] = 3
    content["global_step"] = 3
    train(tmp_path, content=content, steps=5, every_n_steps=4)
    assert names(tmp_path) == ["last.ckpt", "step_0000004.ckpt", "step_0000005.ckpt"]


class Measured(Callback):
    """Puts the next number of a list among the metrics after each step."""

    def __init__(self, values):
        self.values = values

    def on_train_batch_end(self, trainer, *args):
        value = self.values[trainer.global_step - 1]
        trainer.callback_metrics["eval/w2"] = torch.tensor(value)


def test_the_best_is_kept_and_stays_the_best_after_a_resume(tmp_path):
    values = [3.0, 1.0, float("nan"), 2.0, 1.5, 1.2, 0.5, 4.0, 5.0]

    def best(folder):
        return read_training_checkpoint(folder / "checkpoints" / "best.ckpt")["global_step"]

    options = {"every_n_steps": 1, "best_metric": "eval/w2"}
    train(tmp_path, Measured(values), steps=6, **options)
    assert best(tmp_path) == 2
    train(tmp_path, Measured(values), content=last(tmp_path), steps=6, **options)
    train(tmp_path, Measured([9.0] * 6 + [1.1, 1.1]), content=last(tmp_path), steps=8, **options)
    assert best(tmp_path) == 2
    (tmp_path / "max").mkdir()
    train(tmp_path / "max", Measured(values), best_mode="max", **options)
    assert best(tmp_path / "max") == 9
    assert load(tmp_path / "max" / "checkpoints" / "best.ckpt").sample(2) is not None


def test_a_metric_that_does_not_exist_is_told_once(tmp_path, caplog):
    train(tmp_path, every_n_steps=4, best_metric="eval/fid")
    told = [text for text in caplog.messages if "eval/fid" in text]
    assert told == ["best_metric: there is no 'eval/fid' yet; there are: loss"]
    assert "best.ckpt" not in names(tmp_path)


def test_checkpoints_by_the_clock(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("flowgen.training.checkpoints.time.monotonic", lambda: now[0])

    class Clock(Callback):
        def on_train_batch_end(self, trainer, *args):
            now[0] += 30.0

    train(tmp_path, Clock(), every_n_steps=None, every_n_minutes=1.4, keep_last=9)
    steps = [int(name[5:12]) for name in names(tmp_path)[1:]]
    assert steps == [0, 3, 6, 9]
    assert {b - a for a, b in pairwise(steps)} == {3}


def full(step, trainer_step):
    def fsync(handle):
        if trainer_step() in step:
            raise OSError(errno.ENOSPC, "No space left on device")

    return fsync


def test_a_full_disk_costs_a_line_and_the_old_checkpoint_stays(tmp_path, monkeypatch, caplog):
    module = make()
    fsync = full({4, 6}, lambda: module.batches_seen)
    monkeypatch.setattr("flowgen.pipeline.checkpoint.writing.os.fsync", fsync)
    kept = []
    train(
        tmp_path,
        Act(5, lambda: kept.append(last(tmp_path)["global_step"])),
        module=module,
        every_n_steps=2,
    )
    assert kept == [2]
    told = [text for text in caplog.messages if "No space left on device" in text]
    assert [text[:26] for text in told if "checkpoint" in text] == [
        "the checkpoint of step 4 c",
        "the checkpoint of step 6 c",
    ]
    assert names(tmp_path) == ["last.ckpt", "step_0000008.ckpt", "step_0000009.ckpt"]
    assert last(tmp_path)["global_step"] == STEPS


def test_a_full_disk_hidden_behind_an_error_of_torch_is_recognised(tmp_path, monkeypatch, caplog):
    module = make()
    save = torch.save

    def fails(content, file):
        if module.batches_seen != 4:
            return save(content, file)
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", fails)
    train(tmp_path, module=module, every_n_steps=4)
    assert sum("No space left on device" in text for text in caplog.messages) == 1


@pytest.mark.parametrize(("step", "which"), [(0, "first"), (STEPS, "final")])
def test_the_first_checkpoint_and_the_last_must_succeed(step, which, tmp_path, monkeypatch):
    module = make()
    fsync = full({step}, lambda: module.batches_seen)
    monkeypatch.setattr("flowgen.pipeline.checkpoint.writing.os.fsync", fsync)
    with pytest.raises(InputError, match=f"the {which} checkpoint cannot be written") as caught:
        train(tmp_path, module=module, every_n_steps=4)
    assert "No space left on device" in str(caught.value)
    assert module.batches_seen == step
    left = [] if step == 0 else ["last.ckpt", "step_0000004.ckpt", "step_0000008.ckpt"]
    assert names(tmp_path) == left


def test_what_a_killed_writer_left_is_removed(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for path in (folder / ".last.ckpt.a1b2c3_4", tmp_path / ".config.yaml.abcdefgh"):
        path.write_text("half")
    mine = tmp_path / ".notes"
    mine.touch()
    train(tmp_path, steps=1)
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    assert [path.name for path in tmp_path.glob(".*")] == [".notes"]


def test_names_never_tell_how_the_network_was_wrapped(tmp_path):
    plain = make()
    train(tmp_path, module=plain, steps=2)

    def wrapped():
        made = make()
        made.pipeline.field.network = torch.compile(made.pipeline.field.network, backend="eager")
        made.ema.field.network = torch.compile(made.ema.field.network, backend="eager")
        return made

    assert any("_orig_mod" in name for name in wrapped().state_dict())
    (tmp_path / "wrapped").mkdir()
    # Only the wrapper is wanted: dynamo cannot trace the checks of shapes that tests switch on.
    with torch.compiler.set_stance("force_eager"):
        train(tmp_path / "wrapped", module=wrapped(), steps=2)
    state = last(tmp_path / "wrapped")["state_dict"]
    assert list(state) == list(last(tmp_path)["state_dict"])
    assert not [n for n in state if "_orig_mod" in n or "module." in n]
    with torch.compiler.set_stance("force_eager"):
        resumed = train(tmp_path / "wrapped", module=wrapped(), steps=3, content=last(tmp_path))
    assert resumed.global_step == 3


def test_a_state_that_could_not_be_read_again_is_refused_before_training(tmp_path):
    class Odd(Callback):
        def state_dict(self):
            return {"when": {"path": tmp_path}}

    module = make()
    with pytest.raises(InputError, match=r"callbacks\..*Odd.*when\.path is a pathlib\.") as caught:
        train(tmp_path, Odd(), module=module)
    assert "\n" not in str(caught.value)
    assert module.batches_seen == 0


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be >= 1"),
        ({"every_n_minutes": 0}, "every_n_minutes must be > 0"),
        ({"keep_last": -1}, "keep_last must be >= 0"),
        ({"keep_every": 0}, "keep_every must be >= 1"),
        ({"best_mode": "least"}, "best_mode must be min or max, got least"),
    ],
)
def test_numbers_are_checked(tmp_path, bad, name):
    with pytest.raises(InputError, match=name):
        Checkpoints(tmp_path, **bad)
