"""Files of every format are read and sample what they did; the future is refused by its number."""

import json
from pathlib import Path

import pytest
import torch

from flowgen.core import InputError
from flowgen.pipeline import description, load, save, verify
from flowgen.pipeline.checkpoint import FORMAT, KEY, clean_names
from flowgen.pipeline.checkpoint.migrations import STEPS, migrate
from forged import checkpoint, content
from small import built, vector_config

FOLDER = Path(__file__).parent / "old_formats"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix != ".json")


def test_there_is_a_step_and_a_file_of_every_older_format():
    assert set(STEPS) == set(range(1, FORMAT))
    for version in range(1, FORMAT):
        for suffix in (".ckpt", ".safetensors"):
            assert FOLDER / f"format_{version}{suffix}" in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_a_file_of_each_format_gives_the_samples_it_was_stored_with(file):
    verify(file)
    expected = json.loads(file.with_suffix(".json").read_text())
    for weights in ("raw", "ema") if file.suffix == ".ckpt" else ("ema",):
        loaded = load(file, weights=weights, device="cpu")
        # The same numbers up to the rounding of another processor's matrix products.
        samples = torch.tensor(expected[weights])
        assert torch.allclose(loaded.sample(3, seed=5), samples, rtol=1e-4, atol=1e-5)
        assert loaded.about["name"] == "moons"


def test_a_file_of_an_old_format_can_be_exported_in_the_present_one(tmp_path):
    old = load(FOLDER / "format_1.ckpt")
    again = load(save(old, tmp_path / "new.safetensors"))
    assert torch.equal(again.sample(3), old.sample(3))
    assert description(again)["format"] == FORMAT


def test_the_step_from_1_cleans_names_and_keeps_the_rest():
    given = {
        KEY: {"format": 1, "pipeline": {}, "step": 3},
        "state_dict": {
            "pipeline.field._orig_mod.a.weight": 1,
            "ema.field.module.network.module.b": 2,
        },
        "optimizer_states": [4],
    }
    before = json.dumps(given)
    migrated = migrate(given)
    assert migrated == {
        KEY: {"format": 2, "pipeline": {}, "step": 3},
        "state_dict": {"pipeline.field.a.weight": 1, "ema.field.network.module.b": 2},
        "optimizer_states": [4],
    }
    assert json.dumps(given) == before


def test_a_compiled_file_of_format_1_is_read(tmp_path):
    honest = content({"format": 1})
    state = {k.replace("field.", "field._orig_mod."): v for k, v in honest["state_dict"].items()}
    torch.save(honest | {"state_dict": state}, tmp_path / "a.ckpt")
    expected = built(vector_config()).sample(4)
    assert torch.equal(load(tmp_path / "a.ckpt").sample(4), expected)


def test_names_that_become_one_are_refused():
    with pytest.raises(ValueError, match=r"two weights are named 'a\.b'"):
        clean_names({"a.b": 1, "a._orig_mod.b": 2})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (3, "has checkpoint format 3, this flowgen reads 1 to 2: install the flowgen version"),
        (0, "format 0 is none of flowgen's"),
        (True, "format True is none of flowgen's"),
        (None, "format None is none of flowgen's"),
    ],
)
@pytest.mark.parametrize("kind", [".ckpt", ".safetensors"])
def test_other_formats_are_refused_by_their_number(found, said, kind, tmp_path, monkeypatch):
    path = tmp_path / f"a{kind}"
    if kind == ".ckpt":
        checkpoint(path, {"format": found})
    else:
        monkeypatch.setattr("flowgen.pipeline.checkpoint.layout.FORMAT", found)
        save(built(vector_config()), path)
    with pytest.raises(InputError, match=said) as caught:
        load(path)
    assert "\n" not in str(caught.value)
