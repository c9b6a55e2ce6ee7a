"""Files that describe themselves: round trips, and everything that cannot be trusted is refused."""

import json
import os
import pickle
import random
import stat
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import flowgen
from flowgen.core import InputError
from flowgen.pipeline import atomic, description, find, load, pick_device, save
from flowgen.pipeline.checkpoint import KEY, read_training_checkpoint, verify
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


def test_new_files_have_the_permissions_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_file_and_folder_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def recorded_replace(self, target):
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert done == ["file", "rename", "folder"]


def test_differences_are_told_by_name_and_only_a_few(tmp_path):
    pipeline = built(vector_config())
    file = tmp_path / "x.ckpt"
    checkpoint(file, pipeline)
    content = torch.load(file, weights_only=True)
    names = [k for k in content["state_dict"] if k.startswith("pipeline.field.")]
    content["state_dict"][names[0]] = torch.zeros(3)
    torch.save(content, file)
    own = names[0].removeprefix("pipeline.field.")
    with pytest.raises(InputError, match=rf"do not fit their config: {own} is \(3,\), not \("):
        load(file, weights="raw")
    for name in names[1:]:
        content["state_dict"][name + "x"] = content["state_dict"].pop(name)
    torch.save(content, file)
    with pytest.raises(InputError, match="and [0-9]+ more$") as caught:
        load(file, weights="raw")
    assert len(str(caught.value)) < 600


def test_weights_of_another_precision_are_read(tmp_path):
    pipeline = built(vector_config())
    file = tmp_path / "x.ckpt"
    expected = pipeline.sample(3)
    checkpoint(file, pipeline.double())
    assert torch.allclose(load(file, weights="raw").sample(3), expected, atol=1e-5)


def test_the_other_set_of_weights_is_suggested(tmp_path):
    file = checkpoint(tmp_path / "x.ckpt", built(vector_config()))
    with pytest.raises(InputError, match=r"holds no 'ema' weights; try weights=raw$"):
        load(file)


def test_reading_returns_all_that_was_written(tmp_path):
    file = tmp_path / "x.ckpt"
    parameter = torch.nn.Parameter(torch.randn(2, 3))
    shared = torch.arange(12.0)
    written = {
        "numbers": [1, -2, 3.5, 2**40, -(2**70), True, None],
        "texts": ("\u00e9", "", {"a": {"b": ()}}),
        "bytes": b"\x00\xff",
        "counter": Counter({3: 1}),
        "ordered": OrderedDict(a=1),
        "parameter": parameter,
        "views": [shared[2:8:2], shared.reshape(3, 4).T, torch.tensor(7), torch.empty(0, 3)],
        "kinds": [torch.ones(2, dtype=kind) for kind in (torch.bfloat16, torch.int64, torch.bool)],
        "random": torch.get_rng_state(),
        "python": random.Random(0).getstate(),
    }
    torch.save(written, file)
    verify(file)
    read = read_training_checkpoint(file)
    assert read.keys() == written.keys()
    for name in ("numbers", "texts", "bytes", "counter", "ordered", "python"):
        assert read[name] == written[name]
    assert isinstance(read["parameter"], torch.nn.Parameter)
    for name in ("views", "kinds"):
        for one, other in zip(read[name], written[name], strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
    assert torch.equal(read["random"], written["random"])


def test_a_pipeline_of_parts_that_do_not_agree_is_refused(tmp_path):
    config = vector_config()
    config["source"] = {"_target_": "flowgen.data.Gaussian", "shape": [3]}
    file = checkpoint(tmp_path / "x.ckpt", built(vector_config()), pipeline=config)
    with pytest.raises(InputError, match=r"source has shape \(3,\), the network \(2,\)"):
        load(file, weights="raw")
