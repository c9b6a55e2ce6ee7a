"""Hostile and broken files are refused with one line; nothing in them runs, hangs or grows."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from documents import ROOT
from flowgen.cli import main
from flowgen.core import InputError
from flowgen.pipeline import load, save
from flowgen.pipeline.checkpoint import read_training_checkpoint, verify
from flowgen.pipeline.stored import stored_data
from forged import checkpoint, tensor
from hostile import CORPUS
from hostile_archives import ARCHIVES
from hostile_headers import HEADERS
from hostile_pickles import PICKLES
from small import built, vector_config


def test_names_are_unique_and_the_corpus_is_large():
    assert len({case.name for case in CORPUS}) == len(CORPUS) >= 25


@pytest.mark.timeout(30)
@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_every_file_is_refused_in_one_line_and_runs_nothing(case, tmp_path, capfd):
    path, marker = tmp_path / case.name, tmp_path / "marker"
    case.write(path, marker)
    before = {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1000
    assert case.name in message
    assert {entry.name for entry in tmp_path.iterdir()} == before
    assert not marker.exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("case", [*PICKLES, *ARCHIVES, *HEADERS], ids=lambda case: case.name)
def test_the_reader_and_the_verifier_refuse_damage_too(case, tmp_path):
    path = tmp_path / case.name
    case.write(path, tmp_path / "marker")
    read = verify if path.suffix == ".safetensors" else read_training_checkpoint
    for reader in (verify, read):
        with pytest.raises(InputError) as caught:
            reader(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    ["os_system.ckpt", "bomb.ckpt", "pipe.ckpt", "target_cyrillic.ckpt", "overlap.safetensors"],
)
def test_the_command_line_answers_with_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    case = next(case for case in CORPUS if case.name == name)
    case.write(tmp_path / name, tmp_path / "marker")
    assert main(["sample", f"checkpoint={name}"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"error: .*\n", told.err)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.timeout(120)
def test_the_whole_corpus_is_refused_within_a_gigabyte():
    script = ROOT / "benchmarks" / "hostile_files.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(CORPUS)} files refused" in done.stdout


def test_the_table_of_the_documentation_is_that_of_the_corpus():
    path = ROOT / "benchmarks" / "hostile_files.py"
    spec = importlib.util.spec_from_file_location("hostile_files", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = script.PAGE.read_text(encoding="utf-8")
    shown = page.partition(script.START)[2].partition(script.END)[0]
    rows = [line.split(" | ") for line in shown.strip().splitlines()[2:]]
    expected = [(f"| `{case.name}`", case.tries) for case in CORPUS]
    assert [(row[0], row[1]) for row in rows] == expected
    assert all(len(row[2]) > 10 for row in rows)


def test_an_honest_file_passes_every_check(tmp_path):
    checkpoint(tmp_path / "a.ckpt")
    save(built(vector_config()), tmp_path / "b.safetensors")
    for name in ("a.ckpt", "b.safetensors"):
        verify(tmp_path / name)
        load(tmp_path / name)


def test_messages_do_not_carry_control_characters_of_a_path(tmp_path):
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a\x1b[31m\nb.ckpt")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["x" * 5000 + ".ckpt", "a\0b.ckpt"])
def test_impossible_paths_are_told(name):
    for reader in (load, verify, read_training_checkpoint):
        with pytest.raises(InputError):
            reader(name)


DATA = {"_target_": "flowgen.data.PointData", "distribution": {"_target_": "flowgen.data.Moons"}}


def test_a_stored_data_set_is_built_and_never_downloaded(tmp_path):
    data = stored_data(DATA | {"num_train": 10, "num_test": 5, "batch_size": 3}, ("batch_size",))
    assert len(data.train) == 10
    stored = {"_target_": "flowgen.data.FashionMNIST", "root": str(tmp_path), "download": True}
    with pytest.raises(InputError, match="Fashion-MNIST is not in"):
        stored_data(stored)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("os.system", "describes no data set but str"),
        ({"_target_": "os.system"}, "target 'os.system'"),
        ({"_target_": "flowgen.data.download.download", "url": "x"}, "is not a class"),
        ({"_target_": "flowgen.data.Moons"}, "describes a Moons, not a data set"),
        ({"_target_": "flowgen.models.MLP", "shape": [2]}, "is not a class"),
        (DATA | {"num_train": "many"}, "num_train must be int, got str 'many'"),
    ],
)
def test_other_stored_data_is_refused(config, said):
    with pytest.raises(InputError, match=re.escape(said)):
        stored_data(config)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ({"size": (4,)}, True),
        ({"size": (5,)}, False),
        ({"size": (2, 2), "stride": (2, 1)}, True),
        ({"size": (2, 2), "stride": (3, 1)}, False),
        ({"size": (3,), "offset": 1}, True),
        ({"size": (3,), "offset": 2}, False),
        ({"size": (0, 9), "stride": (9, 1), "offset": 4}, True),
        ({"size": (1 << 20,), "stride": (0,)}, True),
        ({"size": ((1 << 20) + 1,), "stride": (0,)}, False),
        ({"size": (2, 2)}, None),
        ({"size": (4,), "numel": 3}, None),
        ({"size": (4,), "kind": "DoubleStorage"}, None),
    ],
)
def test_bounds_of_tensors_are_exact(shape, fits, tmp_path):
    tensor(tmp_path / "a.ckpt", **shape)
    said = {
        True: "it holds a _Tensor",
        False: "reaches beyond its storage",
        None: "a (tensor|storage)",
    }
    with pytest.raises(InputError, match=said[fits]):
        verify(tmp_path / "a.ckpt")
