"""Models on the hub: pushed by its own client to a stand-in on this machine, and loaded again."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from PIL import Image

import flowgen
from flowgen.cli import main
from flowgen.cli.restore import home
from flowgen.pipeline import description
from flowgen.pipeline.checkpoint import KEY
from flowgen.pipeline.export import Facts, Hub, forms, model_card
from hub_server import TOKEN, served
from small import built, image_config, vector_config


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with served(monkeypatch, tmp_path / "cache") as server:
        yield server


def run_folder(place, config):
    """A run as training leaves it, with samples and an evaluation."""
    pipeline = built(config)
    pipeline.about = {
        "name": "insects | and more",
        "data": {"_target_": "flowgen.data.ImageFolder", "root": "/home/me/secret"},
        "step": 7,
    }
    weights = pipeline.field.state_dict().items()
    state = {f"{part}.field.{k}": v for part in ("pipeline", "ema") for k, v in weights}
    (place / "checkpoints").mkdir(parents=True)
    torch.save(
        {"state_dict": state, KEY: description(pipeline)}, place / "checkpoints" / "last.ckpt"
    )
    (place / "samples").mkdir()
    for step, grey in ((3, 10), (7, 90)):
        Image.new("L", (8, 8), grey).save(place / "samples" / f"step_{step:07}.png")
    (place / "metrics.csv").write_text("step,loss\n3,0.75\n7,0.5\n")
    session = {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T11:30:00+00:00"}
    about = {"seed": 3, "device": "cpu", "processes": 2, "commit": "abc", "sessions": [session]}
    (place / "run.json").write_text(json.dumps(about))
    figures = {"labels": {"accuracy": 0.985, "judge": "some text"}}
    protocol = {"checkpoint": "/home/me/run", "samples": 1000}
    (place / "evaluation.json").write_text(json.dumps({"figures": figures, "protocol": protocol}))
    return place


def export(*words):
    return main(["export", "checkpoint=run", *words])


def test_weights_and_card_are_pushed_and_loaded_by_what_the_card_says(
    hub, tmp_path, monkeypatch, capsys
):
    run_folder(tmp_path / "run", image_config())
    words = ["to=safetensors", "push_to_hub=me/insects", "licence=cc-by-4.0", "private=true"]
    assert export(*words, "sampler=euler", "sampler.num_steps=3", "guidance.scale=2") == 0
    assert f"uploaded: {hub.url}/me/insects" in capsys.readouterr().out
    assert hub.repos == {"me/insects": True}
    files = hub.files["me/insects"]
    assert set(files) == {"model.safetensors", "README.md", "samples.png"}
    assert files["model.safetensors"] == (tmp_path / "run" / "exported.safetensors").read_bytes()
    assert files["samples.png"] == (tmp_path / "run/samples/step_0000007.png").read_bytes()

    card = files["README.md"].decode()
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "library_name": "flowgen",
        "license": "cc-by-4.0",
        "tags": ["flowgen", "flow-matching", "label-conditional"],
        "pipeline_tag": "unconditional-image-generation",
    }
    for part in (
        "# insects | and more",
        "samples of shape 1x4x4, asked for by label",
        "Trained on ImageFolder with flowgen",
        "![Samples of the model](samples.png)",
        "| network | DiT |",
        "| path | Linear |",
        "| predicts | Velocity |",
        "| sampler | Euler(), 3 steps |",
        "| training steps | 7 |",
        "| last loss | 0.5 |",
        "| wall time | 1.50 hours |",
        "| labels, accuracy | 0.985 |",
        "| samples | 1000 |",
        "| time | 0 is the source, 1 is data |",
        "`to=safetensors`. Read back, its samples differ from flowgen's own by at most 0 in",
    ):
        assert part in text, part
    assert "ClassifierFree" in text
    assert "secret" not in card
    assert "/home" not in card

    namespace = {}
    exec(re.search(r"```python\n(.*?)```", card, re.S)[1], namespace)
    own = flowgen.load("run", device="cpu")
    sampler = flowgen.integrators.Sampler(
        flowgen.integrators.Euler(), flowgen.integrators.Uniform(), 3
    )
    assert torch.equal(namespace["samples"], own.with_sampler(sampler).sample(16))
    # From the cache, when the hub is not there.
    hub.close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(flowgen.load("hf://me/insects").sample(16), namespace["samples"])
    assert home("hf://me/insects") == Path()


def test_a_graph_runs_as_its_card_says(hub, tmp_path):
    run_folder(tmp_path / "run", vector_config())
    assert export("to=torch_export", "tolerance=1e-5", "push_to_hub=me/points") == 0
    card = hub.files["me/points"]["README.md"].decode()
    metadata = yaml.safe_load(card.split("---\n", 2)[1])
    assert metadata["library_name"] == "pytorch"
    assert metadata["license"] == "unknown"
    assert "pipeline_tag" not in metadata
    namespace = {}
    exec(re.search(r"```python\n(.*?)```", card, re.S)[1], namespace)
    assert namespace["samples"].shape == (4, 2)
    own = flowgen.load("run", device="cpu")
    want = own.codec.decode(own.sampler.sample(own.velocity(), namespace["x_0"]))
    torch.testing.assert_close(namespace["samples"], want, atol=1e-5, rtol=0)


def test_a_folder_keeps_its_files_and_the_card_says_how_each_form_is_loaded(hub, tmp_path):
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "pipeline.py").write_text("code")
    (tmp_path / "model" / "unet" / "weights.bin").write_bytes(b"0123")
    pipeline = built(image_config())
    for form, part in (
        ("diffusers", 'from_pretrained("me/pipe", trust_remote_code=True)'),
        ("pretrained", 'from_pretrained("me/pipe")'),
        ("onnx", 'hf_hub_download("me/pipe", "model.onnx")'),
        ("torch_export", "label = torch.zeros(4, dtype=torch.int64)"),
    ):
        facts = Facts(form, "me/pipe", f"model.{form}", None, 0.5, 1.0, picture=False)
        card = model_card(pipeline, facts)
        assert part in card, form
        assert "samples.png" not in card
        compile(re.search(r"```python\n(.*?)```", card, re.S)[1], form, "exec")
    assert Hub("me/pipe").push(tmp_path / "model", "", card, None) == f"{hub.url}/me/pipe"
    expected = {"pipeline.py": b"code", "unet/weights.bin": b"0123", "README.md": card.encode()}
    assert hub.files["me/pipe"] == expected
    assert hub.repos == {"me/pipe": False}


def refused(*words, capsys):
    capsys.readouterr()
    assert export("to=safetensors", *words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_what_the_hub_would_refuse_is_told_before_anything_is_made(
    hub, tmp_path, monkeypatch, capsys
):
    run_folder(tmp_path / "run", vector_config())
    for name in ("insects", "me/", "/x", "me/a/b", "me/a b", "me/--x", "me/x..y"):
        assert f"push_to_hub={name}" in refused(f"push_to_hub='{name}'", capsys=capsys)
    assert "for push_to_hub" in refused("private=true", capsys=capsys)
    assert "for push_to_hub" in refused("licence=mit", capsys=capsys)
    assert hub.requests == []
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    assert "the hub answers 401: Invalid user token" in refused("push_to_hub=me/a", capsys=capsys)
    monkeypatch.delenv("HF_TOKEN")
    assert "no token of the hub" in refused("push_to_hub=me/a", capsys=capsys)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused("push_to_hub=me/a", capsys=capsys)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.close()
    assert "the hub cannot be reached" in refused("push_to_hub=me/a", capsys=capsys)
    assert hub.repos == {}
    assert not (tmp_path / "run" / "exported.safetensors").exists()


def test_nothing_is_uploaded_where_samples_differ_or_the_hub_says_no(
    hub, tmp_path, monkeypatch, capsys
):
    run_folder(tmp_path / "run", vector_config())
    ending, write = forms.FORMS["safetensors"]

    def wrong(pipeline, path):
        sampling = write(pipeline, path)
        return lambda given: sampling(given) + 0.01

    with monkeypatch.context() as patched:
        patched.setitem(forms.FORMS, "safetensors", (ending, wrong))
        told = refused("push_to_hub=me/a", "tolerance=0.001", capsys=capsys)
    assert "nothing is written" in told
    assert {method for method, _ in hub.requests} == {"GET"}, "only the token was looked at"
    assert hub.repos == hub.files == {}
    hub.repos["me/open"], hub.files["me/open"] = False, {}
    told = refused("push_to_hub=me/open", "private=true", "out=a.safetensors", capsys=capsys)
    assert "is public" in told
    assert hub.files["me/open"] == {}
    hub.refuses["/api/repos/create"] = 403
    told = refused("push_to_hub=you/a", "out=b.safetensors", capsys=capsys)
    assert "push_to_hub=you/a: the hub answers 403" in told
    # What was exported is whole and stays.
    assert flowgen.load("b.safetensors", device="cpu").sample(2).shape == (2, 2)


def test_addresses_that_lead_nowhere_take_one_line(hub, tmp_path, capsys):
    hub.files["me/empty"] = {}
    for address, part in (
        ("hf://me", "an address of the hub is"),
        ("hf://me/a/b", "an address of the hub is"),
        ("hf://me/none", "no model.safetensors: the hub answers 404"),
        ("hf://me/empty", "no model.safetensors: the hub answers 404"),
    ):
        assert main(["sample", f"checkpoint={address}"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert part in lines[0], (address, lines)
    hub.files["me/bad"] = {"model.safetensors": b"none at all"}
    assert main(["sample", "checkpoint=hf://me/bad"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    hub.close()
    assert main(["sample", "checkpoint=hf://me/other"]) == 2
    assert "it cannot be fetched" in capsys.readouterr().err
