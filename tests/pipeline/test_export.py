"""An exported model draws the samples of the model it was made of, at any number of rows."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import flowgen
from flowgen.cli import main
from flowgen.core import InputError
from flowgen.pipeline.export import export, forms

SHORT = ["data.batch_size=16", "trainer.max_steps=3", "callbacks=quiet", "trainer=cpu"]
DIT = ["model=dit_tiny", "model.width=16", "model.depth=1", "model.heads=2"]


@pytest.fixture(name="place", scope="module")
def _place(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(name="images", scope="module")
def _images(place):
    run = place / "images"
    steps = ["sampler.num_steps=2", "trainer.max_steps=12", "optimizer.lr=0.02", "ema_decay=0.5"]
    assert main(["train", "data=digits", *DIT, *SHORT, *steps, f"run_dir={run}"]) == 0
    return run


@pytest.fixture(name="points", scope="module")
def _points(place):
    run = place / "points"
    model = ["model=mlp", "model.width=16", "model.depth=1", "sampler.num_steps=2"]
    small = ["data.num_train=64", "data.num_test=16"]
    assert main(["train", "data=moons", *small, *model, *SHORT, f"run_dir={run}"]) == 0
    return run


def exported(run, form, out, *words, capsys):
    capsys.readouterr()
    assert main(["export", f"checkpoint={run}", f"to={form}", f"out={out}", *words]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return float(told.out.split("samples: ")[1].split(" ")[0])


def test_a_graph_of_torch_gives_the_guided_samples(images, tmp_path, capsys):
    out = tmp_path / "model.pt2"
    words = ["guidance.scale=3", "sampler=euler", "sampler.num_steps=3"]
    words.append("guidance.interval=[0.3,1]")
    assert exported(images, "torch_export", out, *words, capsys=capsys) == 0
    extra = {"flowgen.json": ""}
    graph = torch.export.load(out, extra_files=extra).module()
    about = json.loads(extra["flowgen.json"])
    assert [each["name"] for each in about["inputs"]] == ["x_0", "label"]
    own = flowgen.load(images, device="cpu")
    own = own.with_sampler(
        flowgen.integrators.Sampler(flowgen.integrators.Euler(), flowgen.integrators.Uniform(), 3)
    ).guided(flowgen.models.ClassifierFree(3.0, (0.3, 1.0)))
    for n in (1, 5, 63):
        label = torch.arange(n) % 10
        found = graph(own.noise(7, range(n)), label)
        want = own.sample(n, seed=7)
        assert found.dtype == torch.uint8
        assert (found.int() - want.int()).abs().max() <= 1
    plain = flowgen.load(images, device="cpu").with_sampler(own.sampler).sample(63, seed=7)
    assert (found.int() - plain.int()).abs().max() > 1


def test_points_come_back_to_float_tolerance_from_every_form(points, tmp_path, capsys):
    own = flowgen.load(points, device="cpu")
    want = own.sample(9, seed=2)
    tight = "tolerance=1e-5"
    assert exported(points, "safetensors", tmp_path / "a.safetensors", tight, capsys=capsys) == 0
    assert torch.equal(
        flowgen.load(tmp_path / "a.safetensors", device="cpu").sample(9, seed=2), want
    )
    out = tmp_path / "a.pt2"
    assert exported(points, "torch_export", out, tight, capsys=capsys) <= 1e-5
    found = torch.export.load(out).module()(own.noise(2, range(9)))
    torch.testing.assert_close(found, want, atol=1e-5, rtol=0)


def test_safetensors_keeps_the_sampler_that_was_asked_for(points, tmp_path, capsys):
    out = tmp_path / "fast.safetensors"
    exported(points, "safetensors", out, "sampler=euler", "sampler.num_steps=7", capsys=capsys)
    assert flowgen.load(out, device="cpu").nfe() == 7
    out = tmp_path / "steps.safetensors"
    exported(points, "safetensors", out, "sampler.num_steps=5", capsys=capsys)
    assert flowgen.load(out, device="cpu").nfe() == 10


def test_onnx_runs_elsewhere(points, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "a.onnx"
    assert exported(points, "onnx", out, "tolerance=1e-5", capsys=capsys) <= 1e-5
    session = onnxruntime.InferenceSession(out)
    about = json.loads(session.get_modelmeta().custom_metadata_map["flowgen"])
    assert about["source"] == "Gaussian"
    own = flowgen.load(points, device="cpu")
    x_0 = own.noise(4, range(11)).numpy()
    [found] = session.run(None, {"x_0": x_0})
    np.testing.assert_allclose(found, own.sample(11, seed=4).numpy(), atol=1e-5)


def test_diffusers_loads_and_samples_without_flowgen(images, tmp_path, capsys):
    out = tmp_path / "model"
    assert exported(images, "diffusers", out, capsys=capsys) <= 1
    script = f"""
import sys
sys.modules["flowgen"] = None  # importing it fails
import torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained({str(out)!r}, trust_remote_code=True)
generator = torch.Generator().manual_seed(0)
images = pipe(batch_size=65, class_labels=[3, 4], generator=generator, output_type="pt").images
torch.save((images, torch.randn(65, 1, 8, 8, generator=torch.Generator().manual_seed(0))), "a.pt")
pil = pipe(batch_size=2, generator=generator).images
assert len(pil) == 2 and pil[0].size == (8, 8), pil
assert pipe(batch_size=2, output_type="np", return_dict=False)[0].shape == (2, 8, 8, 1)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, capture_output=True)
    found, noise = torch.load(tmp_path / "a.pt")
    own = flowgen.load(images, device="cpu")
    label = torch.tensor([3, 4])[torch.arange(65) % 2]
    want = own.codec.decode(own.sampler.sample(own.velocity(), noise, {"label": label}))
    assert (found.int() - want.int()).abs().max() <= 1


def test_a_model_that_differs_is_not_kept(points, tmp_path, monkeypatch):
    own = flowgen.load(points, device="cpu")
    ending, write = forms.FORMS["torch_export"]

    def wrong(pipeline, path):
        sampling = write(pipeline, path)
        return lambda given: sampling(given) + 0.01

    monkeypatch.setitem(forms.FORMS, "torch_export", (ending, wrong))
    with pytest.raises(InputError, match=r"are 0\.01 from flowgen's own"):
        export(own, "torch_export", tmp_path / "a.pt2", tolerance=1e-3)
    assert not list(tmp_path.iterdir())


def test_slips_take_one_line_and_leave_nothing(points, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pt2").write_text("mine")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    for words, part in (
        ([], "to="),
        (["to=tflite"], "to must be one of safetensors, torch_export, onnx, diffusers"),
        (["to=onnx", "out=a.pt2"], "to=onnx writes a file .onnx"),
        (["to=diffusers", "out=a.onnx"], "to=diffusers writes a folder"),
        (["to=diffusers", "out=folder"], "out=folder exists"),
        (["to=torch_export", "out=there.pt2"], "out=there.pt2 exists"),
        (["to=torch_export", "out=a.pt2", "sampler=dopri5"], "has fixed steps"),
        (["to=torch_export", "out=a.pt2", "sampler=euler_maruyama"], "has fixed steps"),
        (["to=torch_export", "out=a.pt2", "tolerance=-1"], "tolerance >= 0"),
        (["to=torch_export", "out=a.pt2", "num_samples=0"], "num_samples must be >= 1"),
        (["to=torch_export", "out=a.pt2", "guidance.scale=2"], "guidance.scale=2 needs"),
    ):
        capsys.readouterr()
        assert main(["export", f"checkpoint={points}", *words]) == 2, words
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1, (words, err)
        assert part in err[0], (words, err)
    assert sorted(tmp_path.iterdir()) == before
