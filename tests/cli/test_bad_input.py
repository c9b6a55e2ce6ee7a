"""Bad input gets one clear line and exit code 2: no traceback, and nothing is written."""

import pytest
import torch

from flowgen.cli import main
from flowgen.pipeline import save
from small import built, image_config, vector_config


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with an empty folder of images, two small models and foreign files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    (tmp_path / "foreign.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    save(built(vector_config()), tmp_path / "points.safetensors")
    save(built(image_config()), tmp_path / "images.safetensors")
    return tmp_path


TRAIN = ["train", "data=digits"]
SAMPLE = ["sample", "checkpoint=images.safetensors"]

CASES = {
    "missing checkpoint": (["sample", "checkpoint=none"], "no checkpoint at 'none'"),
    "no checkpoint given": (["sample"], "checkpoint=<run folder or file> is required"),
    "foreign file": (["sample", "checkpoint=foreign.ckpt"], "not a flowgen checkpoint"),
    "other torch file": (["evaluate", "checkpoint=other.ckpt"], "not a flowgen checkpoint"),
    "folder without a run": (["sample", "checkpoint=empty"], "no checkpoint in empty"),
    "folder without images": (["train", "data=image_folder", "data.root=empty"], "no image"),
    "missing image folder": (["train", "data=image_folder", "data.root=nowhere"], "nowhere"),
    "no steps": ([*SAMPLE, "sampler.num_steps=0"], "num_steps must be >= 1, got 0"),
    "no steps, other sampler": ([*SAMPLE, "sampler=euler", "sampler.num_steps=0"], "num_steps"),
    "no samples": ([*SAMPLE, "num_samples=0"], "num_samples must be >= 1"),
    "no chunk": ([*SAMPLE, "chunk=0"], "chunk must be >= 1"),
    "label out of range": ([*SAMPLE, "label=12"], "label 12 does not exist: labels are 0 to 2"),
    "unknown name": ([*SAMPLE, "label=bea"], "did you mean 'bee'"),
    "label of no model": (["sample", "checkpoint=points.safetensors", "label=1"], "unconditional"),
    "guidance of no model": (
        ["sample", "checkpoint=points.safetensors", "guidance.scale=2"],
        "guidance.scale=2 needs a label-conditional or text-conditional model",
    ),
    "negative guidance": ([*SAMPLE, "guidance.scale=-1"], "scale"),
    "unknown output": ([*SAMPLE, "out=a.jpg"], "give a .png, .npz or .pt file"),
    "unknown weights": ([*SAMPLE, "weights=best"], "weights must be one of ema, raw"),
    "unknown device": ([*SAMPLE, "device=gpu9"], "device 'gpu9' is not available"),
    "no data known": (["evaluate", "checkpoint=images.safetensors"], "give data=<name>"),
    "unknown extractor": (
        ["evaluate", "checkpoint=images.safetensors", "data=digits", "extractor=vgg"],
        "shape",
    ),
    "figures not json": (["evaluate", "checkpoint=images.safetensors", "out=a.csv"], ".json"),
    "unknown key": ([*TRAIN, "trainer.max_stpes=3"], "did you mean 'trainer.max_steps'"),
    "unknown choice": ([*TRAIN, "path=trgi"], "did you mean 'trig'"),
    "unknown group": ([*TRAIN, "optimzer=adam"], "did you mean 'optimizer'"),
    "unknown verb": (["tran"], "did you mean 'train'"),
    "no number": ([*TRAIN, "trainer.max_steps=many"], "trainer.max_steps"),
    "no whole number": ([*TRAIN, "data.batch_size=2.5"], "data.batch_size"),
    "no truth": ([*TRAIN, "compile=perhaps"], "compile"),
    "no training steps": ([*TRAIN, "trainer.max_steps=0"], "trainer.max_steps must be >= 1"),
    "batch larger than the data": ([*TRAIN, "data.batch_size=5000"], "5000"),
    "negative rate": ([*TRAIN, "optimizer.lr=-1"], "optimizer"),
    "labels and plain transport": ([*TRAIN, "coupling=exact_assignment"], "conditional=false"),
    "labels of unlabelled data": (
        ["train", "experiment=moons", "conditional=true"],
        "moons has none",
    ),
    "classes without labels": (["train", "experiment=moons", "coupling=class_assignment"], "label"),
    "network for another shape": (["train", "data=moons"], "model=mlp"),
    "run folder in use": ([*TRAIN, "run_dir=used"], "already holds a run"),
    "run folder is a file": ([*TRAIN, "run_dir=foreign.ckpt"], "is a file"),
    "no such accelerator": ([*TRAIN, "trainer.accelerator=abacus"], "trainer"),
    "no clipping is inf": ([*TRAIN, "clip=null"], "clip must be a number, got null"),
    "no batch size": ([*TRAIN, "data.batch_size=null"], "data.batch_size must be a number"),
    "no seed": ([*TRAIN, "seed=null"], "seed must be a number"),
    "half precision": ([*TRAIN, "trainer.precision=16-mixed"], "trainer.precision must be one of"),
    "not the user's to set": ([*TRAIN, "+trainer.max_epochs=3"], "trainer.max_epochs cannot be"),
    "bad decay": ([*TRAIN, "ema_decay=1.5"], "ema"),
    "bad callback": ([*TRAIN, "callbacks.checkpoints.every_n_steps=0"], "every_n_steps"),
    "bad logger mode": ([*TRAIN, "logger=wandb", "logger.wandb.mode=onlin"], "logger"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_exit_2_nothing_written(case, place, capfd):
    (place / "used").mkdir()
    (place / "used" / "config.yaml").touch()
    before = sorted(str(path) for path in place.rglob("*"))
    words, message = CASES[case]
    assert main(words) == 2
    err = capfd.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err
    assert sorted(str(path) for path in place.rglob("*")) == before
