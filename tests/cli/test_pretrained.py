"""A pretrained pipeline of diffusers: wrapped, sampled, fine-tuned, distilled by commands."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import flowgen
import tiny_diffusers as tiny
from flowgen.cli import main
from flowgen.integrators import Euler, Sampler

SHORT = ["data.batch_size=8", "callbacks=quiet", "trainer=cpu"]
SIDE = 2 * tiny.SIDE


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pretrained(tmp_path):
    """The folder of a tiny Stable Diffusion 3."""
    return tiny.saved(tiny.sd3, tmp_path)[1]


def images(folder: Path) -> None:
    """Write images with captions."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(16):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(["a red heart", "a heart"][i % 2])


def latents(pretrained: str) -> list[str]:
    """Encode images by the autoencoder of the pipeline; return the words that train on them."""
    images(Path("images"))
    data = ["data=image_folder", "data.root=images", f"data.size={SIDE}"]
    own = [f"autoencoder={pretrained}", "scaling=autoencoder", "out=latents"]
    assert main(["encode", *data, *own]) == 0
    return ["data=latents", "data.folder=latents"]


def test_a_wrapped_pipeline_samples_and_is_distilled(pretrained, capsys):
    assert main(["wrap", f"pretrained={pretrained}", "out=wrapped.safetensors"]) == 0
    told = capsys.readouterr().out
    assert "SD3Transformer2DModel" in told
    assert "path Linear, predicts DiffusersFlow" in told
    line = ["sample", "checkpoint=wrapped.safetensors", "prompt=a red heart", "num_samples=2"]
    assert main([*line, "out=a.png"]) == 2
    assert "trust_code" in capsys.readouterr().err
    assert main([*line, "out=a.pt", "trust_code=true", "sampler.num_steps=2"]) == 0
    found = torch.load("a.pt")["samples"]
    assert found.shape == (2, 3, SIDE, SIDE)
    assert found.dtype == torch.uint8


@pytest.mark.slow
def test_a_fine_tuned_model_is_distilled(pretrained, capsys):
    data = latents(pretrained)
    own = ["model=diffusers", f"model.path={pretrained}"]
    steps = ["trainer.max_steps=60", "optimizer.lr=1e-2", "ema_decay=0"]
    assert main(["train", *data, *SHORT, *own, *steps, "run_dir=run"]) == 0
    capsys.readouterr()
    # A flow map of the same network: the embedding of the interval is new and starts at nothing.
    short = [*SHORT, "trainer.max_steps=2", "table.num_samples=2", "trust_code=true"]
    line = ["distill", "teacher=run", *short]
    assert main([*line, "distill=mean_flow", "run_dir=student"]) == 0
    assert "no effect yet: network.condition.embeddings.interval" in capsys.readouterr().out
    student = flowgen.load("student", device="cpu", trust_code=True)
    assert student.nfe() == 1
    assert student.sample(2, cond={"prompt": "a heart"}).shape == (2, 3, SIDE, SIDE)
    # And one that asks the teacher, which is built with trust as well.
    method = "distill=velocity_matching_and_distillation"
    assert main([*line, method, "run_dir=second"]) == 0
    # One that asks itself for its answer to no prompt.
    assert main([*line, "distill=mean_flow_guided", "run_dir=guided"]) == 0
    # And one whose critic is a network of diffusers too, told from which of four nodes it judges.
    assert main([*line, "distill=dmd2", "run_dir=third"]) == 0
    assert flowgen.load("third", device="cpu", trust_code=True).nfe() == 4


def test_fine_tuning_starts_from_the_pretrained_weights(pretrained, capsys):
    words = [*latents(pretrained), *SHORT, "model=diffusers", f"model.path={pretrained}"]
    train = ["train", *words, "run_dir=run"]
    # With no learning rate the model stays what it was.
    assert main([*train, "trainer.max_steps=1", "optimizer.lr=1e-12"]) == 0
    assert main(["wrap", f"pretrained={pretrained}", "out=wrapped.safetensors"]) == 0
    first = flowgen.load("run", device="cpu", trust_code=True)
    second = flowgen.load("wrapped.safetensors", device="cpu", trust_code=True)
    asked = {"prompt": ["a red heart", ""]}
    want = second.sample(2, cond=asked, decode=False)
    torch.testing.assert_close(first.sample(2, cond=asked, decode=False), want)
    assert main(["train", "resume=run", "trainer.max_steps=3"]) == 0
    assert "going on after step 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["path=trig"], "path cannot be set: a fine-tuned model has it from"),
        (["text_encoder=hashed_words"], "text_encoder cannot be set"),
        (["data=digits"], "scaling=autoencoder, then data=latents"),
        (["model.path=nothing"], "no pipeline of diffusers at 'nothing'"),
    ],
)
def test_what_cannot_be_fine_tuned_is_told_in_a_line(pretrained, words, message, capsys):
    data = [] if "data=digits" in words else latents(pretrained)
    own = ["model=diffusers", f"model.path={pretrained}", "conditional=false"]
    assert main(["train", *data, *SHORT, *own, *words, "run_dir=run"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrained=nothing"], "no pipeline of diffusers at 'nothing'"),
        (["out=model.ckpt"], "the checkpoint is a file .safetensors"),
        (["size=15"], "size must be a multiple of 4 pixels"),
    ],
)
def test_what_cannot_be_wrapped_is_told_in_a_line(pretrained, words, message, capsys):
    assert main(["wrap", f"pretrained={pretrained}", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(Path().glob("*.safetensors"))


def test_an_adapter_learns_alone_and_leaves_for_diffusers(pretrained, capsys):
    data = latents(pretrained)
    own = ["model=diffusers_lora", f"model.path={pretrained}", "model.adapter.rank=2"]
    steps = ["trainer.max_steps=5", "optimizer.lr=1e-2", "lr_schedule=warmup_constant"]
    assert main(["train", *data, *SHORT, *own, *steps, "run_dir=run", "ema_decay=0"]) == 0
    run = flowgen.load("run", device="cpu", trust_code=True)
    theirs = diffusers.StableDiffusion3Pipeline.from_pretrained(pretrained)
    theirs.set_progress_bar_config(disable=True)
    before, after = theirs.transformer.state_dict(), run.field.network.network.state_dict()
    for name, value in before.items():
        kept = after.get(name, after.get(name.replace(".weight", ".base_layer.weight")))
        if kept is None:
            kept = after[name.replace(".bias", ".base_layer.bias")]
        assert torch.equal(kept, value)
    assert any(bool(value.any()) for name, value in after.items() if "lora_B" in name)
    for to in ("lora", "pretrained"):
        words = ["export", "checkpoint=run", "trust_code=true", f"to={to}", f"out={to}"]
        assert main([*words, "sampler.num_steps=2", "num_samples=2"]) == 0
    # Read by diffusers, adapter and merged network draw what flowgen draws.
    want = _drawn(run)
    plain = _drawn_by_theirs(theirs)
    assert (plain - want).abs().max() > 1e-3
    theirs.load_lora_weights("lora")
    merged = diffusers.StableDiffusion3Pipeline.from_pretrained("pretrained")
    merged.set_progress_bar_config(disable=True)
    for found in (theirs, merged):
        torch.testing.assert_close(_drawn_by_theirs(found), want, atol=2e-4, rtol=2e-4)


def _noise():
    return torch.randn(1, 4, tiny.SIDE, tiny.SIDE, generator=torch.Generator().manual_seed(3))


def _drawn(ours):
    cond = ours.conditions(range(1), {"prompt": ["a red heart"]})
    ours = ours.with_sampler(Sampler(Euler(), ours.sampler.grid, 4))
    with torch.no_grad():
        return ours.sampler.sample(ours.velocity(), _noise(), cond)


def _drawn_by_theirs(pipeline):
    return pipeline(
        "a red heart",
        latents=_noise(),
        height=SIDE,
        width=SIDE,
        sigmas=[1.0, 0.75, 0.5, 0.25],
        guidance_scale=1.0,
        output_type="latent",
    ).images


def test_models_that_are_not_of_diffusers_do_not_leave_so(capsys):
    small = ["data=digits", "model=mlp_image", "model.width=8", "trainer.max_steps=1", *SHORT]
    assert main(["train", *small, "run_dir=run"]) == 0
    for to in ("lora", "pretrained"):
        assert main(["export", "checkpoint=run", f"to={to}", "out=out"]) == 2
        assert "only networks of diffusers can be written so" in capsys.readouterr().err
    assert not Path("out").exists()
