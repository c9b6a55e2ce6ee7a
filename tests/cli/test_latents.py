"""From an autoencoder to a model of latents that samples images, alone in its file."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

import flowgen
from flowgen.cli import main
from flowgen.pipeline import save
from flowgen.training import AutoencoderModule

SMALL = ["autoencoder.channels=[16,16]", "batch_size=16", "trainer=cpu"]
SHORT = ["data.batch_size=16", "trainer.max_steps=2", "callbacks=quiet", "trainer=cpu"]
MODEL = ["model=mlp_image", "model.width=16", "model.depth=1", "sampler.num_steps=2"]
TABLE = "table.num_samples=20"


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def words_of(out: str) -> list[str]:
    """Return the command that the last line says is next."""
    return out.splitlines()[-1].removeprefix("next: flowgen ").split()


@pytest.mark.slow
def test_every_command_leads_to_the_next_and_samples_need_no_other_file(tmp_path, capsys):
    assert main(["train-autoencoder", *SMALL, "trainer.max_steps=2"]) == 0
    told = capsys.readouterr().out
    assert "latents (4, 4, 4) of images (1, 8, 8); held-out images come back at" in told
    assert not (tmp_path / "autoencoder_digits" / "training").exists()
    assert main(words_of(told)) == 0
    assert main([*words_of(capsys.readouterr().out), *MODEL, *SHORT, "run_dir=run"]) == 0
    run = flowgen.load("run", device="cpu")
    save(run, "model.safetensors")
    (tmp_path / "latents_digits").rename("away")
    (tmp_path / "autoencoder_digits").rename("away_too")
    alone = flowgen.load("model.safetensors", device="cpu")
    want = run.sample(3, seed=1)
    assert want.dtype == torch.uint8
    assert want.shape == (3, 1, 8, 8)
    assert torch.equal(alone.sample(3, seed=1), want)
    # Decoded by the very autoencoder that encoded.
    weights = load_file("away_too/diffusion_pytorch_model.safetensors")
    for own in (run, alone):
        found = own.codec.network.state_dict()
        assert all(torch.equal(found[name], value) for name, value in weights.items())
    (tmp_path / "away").rename("latents_digits")
    more = ["measures=[labels]", "num_samples=20"]
    assert main(["evaluate", "checkpoint=run", *more]) == 0
    line = ["distill", "teacher=run", "distill=velocity_matching", TABLE, *SHORT]
    assert main([*line, "run_dir=student"]) == 0
    assert flowgen.load("student", device="cpu").sample(2).shape == (2, 1, 8, 8)
    assert main(["train", "resume=run", "trainer.max_steps=3"]) == 0


def test_an_interrupted_autoencoder_goes_on_to_the_same_weights(monkeypatch, capsys):
    line = ["train-autoencoder", *SMALL, "trainer.max_steps=5"]
    assert main([*line, "out=whole"]) == 0
    step = AutoencoderModule.training_step

    def stopping(self, batch, batch_idx):
        if self.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderModule, "training_step", stopping)
        assert main([*line, "out=parts"]) == 128 + signal.SIGTERM
    assert "the same command goes on" in capsys.readouterr().out
    assert main([*line, "out=parts"]) == 0
    assert "going on after step 3" in capsys.readouterr().out
    name = "diffusion_pytorch_model.safetensors"
    first, second = load_file(f"whole/{name}"), load_file(f"parts/{name}")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_slips_take_one_line_and_leave_nothing(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "config.json").write_text("{}")
    there = sorted(str(path) for path in tmp_path.rglob("*"))
    for words, part in (
        (["train-autoencoder", "data=moons"], "needs images"),
        (["train-autoencoder", "out=full"], "holds something else"),
        (["train-autoencoder", "out=done"], "holds an autoencoder"),
        (["train-autoencoder", "autoencoder.channels=[20]"], "multiples of groups 16"),
        (["train-autoencoder", "autoencoder.channels=[16,16,16,16,16]"], "multiples of 16"),
        (["train-autoencoder", "autoencoder.latent_channels=0"], "must be >= 1"),
        (["train-autoencoder", "lr=0"], "lr must be > 0"),
        (["train-autoencoder", "kl_weight=-1"], "kl_weight must be >= 0"),
        (["train-autoencoder", "batch_size=0"], "batch_size must be >= 1"),
        (["train-autoencoder", "trainer.max_steps=0"], "max_steps must be >= 1"),
        (["encode"], "autoencoder"),
        (["encode", "autoencoder=done"], "'done' holds a None"),
        (["encode", "autoencoder=done", "data=moons"], "latents are of images"),
        (["encode", "autoencoder=done", "out=full"], "is not empty"),
        (["encode", "autoencoder=done", "batch_size=0"], "batch_size must be >= 1"),
        (["train", "data=latents"], "data.folder"),
        (["train", "data=latents", "data.folder=full"], "make latents by flowgen encode"),
    ):
        capsys.readouterr()
        assert main(words) == 2, words
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1, (words, err)
        assert part in err[0], (words, err)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == there
