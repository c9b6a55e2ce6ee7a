"""Files that describe themselves: round trips, and everything that cannot be trusted is refused."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

import flowgen
from flowgen.core import InputError
from flowgen.pipeline import atomic, description, find, load, pick_device, save
from flowgen.pipeline.checkpoint import KEY
from small import built, image_config, vector_config


def checkpoint(path, pipeline, averaged=None, /, **changes):
    """Write a training checkpoint the way Lightning does, without training."""
    state = {f"pipeline.field.{k}": v for k, v in pipeline.field.state_dict().items()}
    if averaged is not None:
        state |= {f"ema.field.{k}": v for k, v in averaged.field.state_dict().items()}
    torch.save({"state_dict": state, KEY: description(pipeline) | changes}, path)
    return path


@pytest.mark.parametrize("config", [vector_config(), image_config(), image_config(None)])
def test_exported_file_samples_bit_equal_without_any_flag(tmp_path, config):
    pipeline = built(config)
    file = save(pipeline, tmp_path / "model.safetensors")
    again = flowgen.load(file)
    assert torch.equal(again.sample(5, seed=2), pipeline.sample(5, seed=2))
    assert again.config == config


def test_training_checkpoint_holds_both_sets_of_weights(tmp_path):
    raw, averaged = built(image_config(), seed=1), built(image_config(), seed=2)
    file = checkpoint(tmp_path / "a.ckpt", raw, averaged)
    assert torch.equal(load(file).sample(3), averaged.sample(3))
    assert torch.equal(load(file, weights="raw").sample(3), raw.sample(3))
    with pytest.raises(InputError, match="weights must be one of ema, raw"):
        load(file, weights="emma")


def test_run_folder_means_its_last_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    file = checkpoint(tmp_path / "checkpoints" / "last.ckpt", built(vector_config()))
    assert find(tmp_path) == file
    assert find(tmp_path / "checkpoints") == file
    assert find(file) == file


def test_missing_checkpoints_are_named(tmp_path):
    with pytest.raises(InputError, match="no checkpoint at"):
        load(tmp_path / "none.ckpt")
    with pytest.raises(InputError, match="no checkpoint in"):
        load(tmp_path)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("kind", ["text", "pickle", "other", "truncated", "list", "safetensors"])
def test_foreign_and_damaged_files_are_refused_in_one_line(tmp_path, capsys, kind):
    file = tmp_path / "x.ckpt"
    if kind == "text":
        file.write_text("not a checkpoint")
    elif kind == "pickle":
        file.write_bytes(pickle.dumps(Evil()))
    elif kind == "other":
        torch.save({"state_dict": {}, "epoch": 3}, file)
    elif kind == "list":
        torch.save([1, 2], file)
    elif kind == "truncated":
        checkpoint(file, built(vector_config()))
        file.write_bytes(file.read_bytes()[:-2000])
    else:
        file = tmp_path / "x.safetensors"
        save_file({"w": torch.zeros(2)}, file)
    with pytest.raises(InputError, match="is not a flowgen checkpoint, or is damaged") as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_a_pickle_inside_a_torch_file_does_not_run(tmp_path, capsys):
    file = tmp_path / "x.ckpt"
    torch.save({"state_dict": {}, KEY: Evil()}, file)
    with pytest.raises(InputError, match="not a flowgen checkpoint"):
        load(file)
    assert "code ran" not in capsys.readouterr().out


def test_weights_must_fit_exactly(tmp_path):
    pipeline = built(vector_config())
    file = tmp_path / "x.ckpt"
    checkpoint(file, pipeline)
    content = torch.load(file, weights_only=True)
    name = next(k for k in content["state_dict"] if k.startswith("pipeline.field."))
    content["state_dict"]["pipeline.field.extra"] = content["state_dict"].pop(name)
    torch.save(content, file)
    with pytest.raises(InputError, match="do not fit") as caught:
        load(file, weights="raw")
    assert "extra" in str(caught.value)


def test_no_averaged_weights_is_said(tmp_path):
    file = checkpoint(tmp_path / "x.ckpt", built(vector_config()))
    with pytest.raises(InputError, match="holds no 'ema' weights"):
        load(file)


def test_newer_formats_and_foreign_objects_are_refused(tmp_path):
    pipeline = built(vector_config())
    file = checkpoint(tmp_path / "x.ckpt", pipeline, format=99)
    with pytest.raises(InputError, match="format 99"):
        load(file, weights="raw")
    checkpoint(file, pipeline, pipeline={"_target_": "flowgen.paths.Trig"})
    with pytest.raises(InputError, match="describes a Trig, not a pipeline"):
        load(file, weights="raw")


def test_code_named_in_the_file_needs_trust(tmp_path):
    pipeline = built(vector_config())
    evil = vector_config()
    evil["source"] = {"_target_": "builtins.print", "_args_": ["code ran"]}
    file = checkpoint(tmp_path / "x.ckpt", pipeline, pipeline=evil)
    with pytest.raises(
        InputError, match=r"source: target 'builtins\.print' is not a class of flowgen"
    ):
        load(file, weights="raw")


def test_conventions_and_version_travel_in_the_file(tmp_path):
    from safetensors import safe_open

    pipeline = built(image_config())
    pipeline.about = {"name": "test", "data": {"_target_": "flowgen.data.Digits"}}
    file = save(pipeline, tmp_path / "model.safetensors")
    with safe_open(file, framework="pt") as opened:
        about = json.loads(opened.metadata()[KEY])
    assert about["version"] == flowgen.__version__
    assert about["conventions"]["time"] == "0 is the source, 1 is data"
    assert "1 is off" in about["conventions"]["guidance"]
    assert about["pipeline"]["conditioner"]["names"] == ["ant", "bee", "cow"]
    assert load(file).about == pipeline.about


def test_saving_refuses_what_could_not_be_loaded(tmp_path):
    pipeline = built(vector_config())
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        save(pipeline, tmp_path / "model.pt")
    for changed in (
        pipeline.with_sampler(pipeline.sampler.with_num_steps(3)),
        pipeline.with_field(torch.nn.Identity()),
    ):
        with pytest.raises(InputError, match="no config describes this pipeline"):
            save(changed, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_atomic_leaves_the_old_file_when_writing_fails(tmp_path):
    file = tmp_path / "deep" / "a.txt"
    with atomic(file) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError, match="disk"), atomic(file) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("disk")
    assert file.read_text() == "old"
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(InputError, match="device 'cuda:99' is not available") as caught:
        pick_device("cuda:99")
    assert "\n" not in str(caught.value)
