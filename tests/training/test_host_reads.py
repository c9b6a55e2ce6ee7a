"""A training step waits for the accelerator once: for the number that says whether it is finite.

On a CPU the reads can be counted as well: each is the operation ``aten::_local_scalar_dense``.
"""

from collections import Counter

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils._python_dispatch import TorchDispatchMode

from flowgen.models import Guided, HashedWords
from flowgen.training.finite import FiniteGuard
from flowgen.training.optimization import Optimization
from runs import Rows, flow
from small import image_config
from unchecked import unchecked

WARM_UP, COUNTED = 2, 3
CAPTIONS = ["red heart", "blue car", "a green tree"]


class Reads(TorchDispatchMode):
    """Counts the numbers that are read from tensors, by who reads them."""

    def __init__(self):
        super().__init__()
        self.found = Counter()
        self.reader = "step"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found[self.reader] += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class Captioned(Rows):
    """The same batches, with captions by their numbers."""

    def __init__(self):
        super().__init__(images=True)
        self.batch["caption"] = self.batch["label"]


def labels():
    return image_config()


def text():
    config = image_config()
    config["field"]["network"] |= {"num_classes": {"label": 3}, "text_width": 6}
    words = {"_target_": "flowgen.models.HashedWords", "width": 6}
    prompt = {"_target_": "flowgen.models.TextConditioner", "encoder": words, "length": 4}
    parts = {"label": config["conditioner"], "prompt": prompt}
    config["conditioner"] = {"_target_": "flowgen.models.Conditioners", "parts": parts}
    return config


def reads_of(module, folder, monkeypatch):
    """Return the reads of the steps after the first ones, by reader."""
    counted = Reads()

    def named(owner, name):
        inner = getattr(owner, name)

        def outer(*args, **more):
            before, counted.reader = counted.reader, name
            try:
                return inner(*args, **more)
            finally:
                counted.reader = before

        monkeypatch.setattr(owner, name, outer)

    named(FiniteGuard, "takes")
    named(Optimization, "clip")
    learn = module.learn

    def step(batch):
        if not WARM_UP <= module.batches_seen < WARM_UP + COUNTED:
            return learn(batch)
        with counted:
            return learn(batch)

    monkeypatch.setattr(module, "learn", step)
    trainer = Trainer(
        # The last step writes its row of the log, which reads numbers.
        max_steps=WARM_UP + COUNTED + 1,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        log_every_n_steps=1000,
    )
    module.pipeline.conditioner.use(CAPTIONS)
    # Checks of values read them.
    with unchecked():
        trainer.fit(module, Captioned())
    return counted.found


@pytest.mark.parametrize("config", [labels, text])
def test_a_step_reads_one_number(config, tmp_path, monkeypatch):
    found = reads_of(flow(config()), tmp_path, monkeypatch)
    assert found["takes"] == COUNTED
    # Clipping reads one more, on a CPU only, where nothing waits for it.
    assert found["clip"] == COUNTED
    assert found["step"] == 0, found


def test_reads_are_seen(tmp_path, monkeypatch):
    module = flow(labels())
    drop = module.pipeline.conditioner.drop

    def read(cond, **more):
        return drop(cond, **more) if float(cond["label"].sum()) else cond

    monkeypatch.setattr(module.pipeline.conditioner, "drop", read)
    assert reads_of(module, tmp_path, monkeypatch)["step"] == COUNTED


def test_no_text_is_not_encoded_again_in_a_run_nor_in_a_guided_sample(tmp_path, monkeypatch):
    asked = []
    encode = HashedWords.__call__

    def noted(self, texts, length):
        asked.append(list(texts))
        return encode(self, texts, length)

    monkeypatch.setattr(HashedWords, "__call__", noted)
    module = flow(text())
    reads_of(module, tmp_path, monkeypatch)
    # Captions before the first step, no text in it, and nothing in the others.
    assert asked == [CAPTIONS, [""]]
    pipeline = module.pipeline
    cond = pipeline.conditioner.rows({"prompt": CAPTIONS[:2]}, range(2))
    asked.clear()
    guided = Guided(pipeline.field, 2.0, pipeline.conditioner.null)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for t in (0.0, 0.25, 0.5):
        guided(x, torch.full((2,), t), cond)
    assert asked == []
