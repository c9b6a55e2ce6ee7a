"""Checkpoints that are written while training goes on."""

import io
import signal
import threading
from collections import OrderedDict

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from flowgen.core import InputError
from flowgen.pipeline.checkpoint import read_training_checkpoint
from flowgen.training import Checkpoints, Interruption, StopRequested, checkpoints
from flowgen.training.host_copy import free_memory, host_copy, tensor_bytes
from runs import Rows, flow
from small import image_config


class Slow(Checkpoints):
    """Notes what it does; the file of one step waits until another step has been taken."""

    def __init__(self, folder, slow=2, until=4, **settings):
        super().__init__(folder, **({"every_n_steps": 2, "keep_last": 9} | settings))
        self.slow, self.until = slow, until
        self.gate = threading.Event()
        self.notes = []
        self.threads = {}

    def _write(self, content, step, better):
        self.threads[step] = threading.current_thread()
        if step == self.slow and self.threads[step] is not threading.main_thread():
            assert self.gate.wait(60)
        problem = super()._write(content, step, better)
        self.notes.append(f"wrote {step}")
        return problem

    def on_train_batch_end(self, trainer, *args):
        self.notes.append(f"step {trainer.global_step}")
        # The next due point waits for the file, so that the gate must open before.
        if trainer.global_step == self.until - 1:
            self.gate.set()
        super().on_train_batch_end(trainer, *args)


class Act(Callback):
    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            self.action()


def train(folder, *callbacks, steps=5):
    torch.manual_seed(0)
    module = flow(image_config(), optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2))
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10,
        default_root_dir=folder,
    )
    trainer.fit(module, DataLoader(Rows(images=True), batch_size=None))


def saved(folder, name):
    content = read_training_checkpoint(folder / "checkpoints" / name)
    for process in content["training"]["processes"]:
        del process["python"]  # beartype draws from python's own generator
    content["callbacks"] = {}
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_the_file_is_that_of_its_step_though_training_goes_on(tmp_path):
    slow = Slow(tmp_path / "behind", asynchronous=True)
    train(tmp_path / "behind", slow)
    assert slow.notes.index("wrote 2") > slow.notes.index("step 3")
    assert slow.notes.index("wrote 2") < slow.notes.index("wrote 4")
    train(tmp_path / "waited", Slow(tmp_path / "waited", asynchronous=False))
    for name in ("step_0000002.ckpt", "step_0000004.ckpt", "last.ckpt"):
        assert saved(tmp_path / "behind", name) == saved(tmp_path / "waited", name), name
    behind = {step for step, thread in slow.threads.items() if thread.name == "checkpoint writer"}
    assert behind == {2, 4}  # the first and the last are waited for


def test_a_request_to_stop_waits_for_the_file_and_saves_its_own_step(tmp_path):
    slow = Slow(tmp_path, asynchronous=True)

    def stop():
        threading.Timer(0.2, slow.gate.set).start()
        signal.raise_signal(signal.SIGUSR1)

    slow.until = 99
    with pytest.raises(StopRequested, match="SIGUSR1"):
        train(tmp_path, Interruption(), Act(3, stop), slow)
    assert slow.notes[-2:] == ["wrote 2", "wrote 3"]
    assert read_training_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 3


def test_a_full_disk_is_told_and_tried_again(tmp_path, monkeypatch, caplog):
    class Full(Slow):
        def _write(self, content, step, better):
            if step == 2:
                caplog.records.clear()
                return "No space left on device"
            return super()._write(content, step, better)

    full = Full(tmp_path, asynchronous=True, best_metric="value", best_mode="max")
    monkeypatch.setattr(Full, "_better", lambda self, trainer: setattr(self, "_best", 1.0) or True)
    best = []
    train(tmp_path, Act(3, lambda: best.append(full._finish() and full._best)), full)
    assert "the checkpoint of step 2 cannot be written (No space left on device)" in caplog.text
    assert best == [1.0]  # of the first checkpoint; that of step 2 has been taken back
    names = {path.name for path in (tmp_path / "checkpoints").glob("step_*")}
    assert names == {"step_0000000.ckpt", "step_0000004.ckpt", "step_0000005.ckpt"}


def test_what_the_writer_raises_ends_the_run(tmp_path):
    class Broken(Slow):
        def _write(self, content, step, better):
            if step == 2:
                raise ZeroDivisionError("inside the writer")
            return super()._write(content, step, better)

    with pytest.raises(ZeroDivisionError, match="inside the writer"):
        train(tmp_path, Broken(tmp_path, asynchronous=True))
    assert read_training_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 0


@pytest.mark.parametrize(("free", "behind"), [(None, False), (10_000, False), (10**9, True)])
def test_by_default_a_copy_is_made_where_there_is_room(free, behind, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "free_memory", lambda: free)
    slow = Slow(tmp_path)
    train(tmp_path, slow, steps=3)
    assert (slow.threads[2] is not threading.main_thread()) == behind


def test_the_copy_is_what_was_copied():
    shared = torch.arange(12.0).reshape(3, 4)
    content = {
        "state": OrderedDict(a=shared.T, b=shared.T, c=torch.zeros(0), n=3),
        "more": [shared.to(torch.bfloat16), (1, "x", None), {"step": torch.tensor(2.0)}],
    }
    copy, files = host_copy(content), []
    assert tensor_bytes(content) == 12 * 4 + 12 * 2 + 4
    for each in (content, copy):
        files.append(io.BytesIO())
        torch.save(each, files[-1])
    shared.zero_()
    content["more"][2]["step"] += 1
    content["more"].clear()
    assert copy["state"]["a"] is copy["state"]["b"]
    assert type(copy["state"]) is OrderedDict
    torch.testing.assert_close(copy["state"]["a"].T, torch.arange(12.0).reshape(3, 4))
    assert copy["more"][2]["step"] == 2
    assert len(files[1].getvalue()) <= len(files[0].getvalue())


def test_free_memory_is_that_of_this_machine():
    free = free_memory()
    assert free is None or 2**20 < free < 2**50


def test_the_first_file_must_succeed(tmp_path, monkeypatch):
    monkeypatch.setattr(Slow, "_write", lambda *args: "No space left on device")
    with pytest.raises(InputError, match="the first checkpoint cannot be written"):
        train(tmp_path, Slow(tmp_path, asynchronous=True))
