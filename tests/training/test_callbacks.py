"""Checkpoints, pictures, the bar and the loggers of a run."""

import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch.utils.data import DataLoader

from flowgen.core import InputError
from flowgen.pipeline import load
from flowgen.training import Checkpoints, SampleGrid
from runs import Rows, flow
from small import image_config, vector_config


def fit(tmp_path, callbacks, steps=4, config=None, logger=False, module=None):
    config = config or vector_config()
    module = module or flow(config)
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
        default_root_dir=tmp_path,
    )
    images = "num_classes" in config["field"]["network"]
    trainer.fit(module, DataLoader(Rows(images), batch_size=None))
    return trainer, module


def test_last_checkpoint_samples_like_the_module(tmp_path):
    _, module = fit(tmp_path, [Checkpoints(tmp_path, every_n_steps=3)], config=image_config())
    loaded = load(tmp_path)
    assert torch.equal(loaded.sample(4), module.averaged().sample(4))
    raw = load(tmp_path, weights="raw")
    assert torch.equal(raw.sample(4), module.pipeline.sample(4))
    names = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert not [name for name in names if "_orig_mod" in name or name.startswith("module.")]


def test_pictures_are_drawn_when_due_and_at_the_end(tmp_path):
    callback = SampleGrid(tmp_path, every_n_steps=2, num_samples=4, columns=2)
    fit(tmp_path, [callback], steps=5, config=image_config())
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == ["step_0000002.png", "step_0000004.png", "step_0000005.png"]
    with Image.open(tmp_path / "samples" / names[0]) as picture:
        assert picture.size == (2 * 34 + 2, 2 * 34 + 2)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: Checkpoints(p, every_n_steps=0), "checkpoints.every_n_steps"),
        (lambda p: SampleGrid(p, every_n_steps=0), "sample_grid.every_n_steps"),
        (lambda p: SampleGrid(p, num_samples=0), "sample_grid.num_samples"),
    ],
)
def test_numbers_are_checked(tmp_path, make, name):
    with pytest.raises(InputError, match=name):
        make(tmp_path)
