"""Runs with evaluation during training."""

import json

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from flowgen.data import EightGaussians, PointData
from flowgen.evaluation import Discrepancy, ImageDistance, Transport
from flowgen.training import Checkpoints, Evaluate
from runs import Rows, flow
from small import vector_config

DATA = PointData(EightGaussians(), num_train=100, num_test=40)


def callback(folder, **changes):
    measures = {"transport": Transport(30), "images": ImageDistance("pixels")}
    settings = {"every_n_steps": 2, "num_samples": 30, "num_steps": 2, "chunk": 11} | changes
    made = Evaluate(folder, settings.pop("measures", measures), **settings)
    made.use(DATA, flow(vector_config()).pipeline)
    return made


def fit(folder, callbacks, steps=5, module=None, logger=False, **changes):
    module = module or flow(vector_config())
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=logger,
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(c, Checkpoints) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=folder,
        **changes,
    )
    trainer.fit(module, DataLoader(Rows(False), batch_size=None))
    return trainer, module


def read(folder):
    files = sorted((folder / "evaluations").iterdir())
    return {path.name: json.loads(path.read_text()) for path in files}


def figures(folder, **trainer):
    """Return what is found of a model that does not learn, so that all processes see the same."""
    measures = {"transport": Transport(30), "discrepancy": Discrepancy(30)}
    module = flow(vector_config(), optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    watch = callback(folder, measures=measures, num_samples=31)
    fit(folder, [watch], steps=2, module=module, **trainer)
    return read(folder)["step_0000002.json"]
