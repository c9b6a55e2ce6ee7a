"""``flowgen make-pairs``: a folder that is gone on with, trained with, and refused elsewhere."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import flowgen
from flowgen.cli import main
from flowgen.couplings import PairFolder, PairShards
from flowgen.pipeline import make_pairs, save
from small import built, image_config, vector_config

FEW = ["num_pairs=10", "shard_size=4", "sampler.num_steps=2", "device=cpu"]
SHORT = ["data.batch_size=16", "trainer.max_steps=3", "callbacks=quiet", "trainer=cpu"]
SHORT += ["table.num_samples=0", "threads=1"]


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def points():
    save(built(vector_config()), Path("points.safetensors"))
    return "teacher=points.safetensors"


@pytest.fixture
def images():
    save(built(image_config()), Path("images.safetensors"))
    return "teacher=images.safetensors"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A small conditional model that has learnt enough to be a teacher."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    words = ["data=digits", "model=dit_tiny", "model.width=16", "model.depth=1", "model.heads=2"]
    words += ["data.batch_size=64", "trainer.max_steps=100", "optimizer.lr=3e-3"]
    assert main(["train", *words, "trainer=cpu", "callbacks=quiet", f"run_dir={folder}"]) == 0
    return folder


def pairs(folder, n=10):
    return PairShards(PairFolder.read(folder)).rows(torch.arange(n))


def files(folder):
    return {file.name: file.stat().st_mtime_ns for file in Path(folder).iterdir()}


def test_pairs_are_noise_and_what_the_teacher_samples_from_it(images):
    assert main(["make-pairs", images, *FEW, "guidance.scale=2", "seed=4", "out=pairs"]) == 0
    assert sorted(files("pairs")) == [
        *("pairs.json", "pairs_00000.safetensors", "pairs_00001.safetensors"),
        "pairs_00002.safetensors",
    ]
    teacher = flowgen.load("images.safetensors", device="cpu").guided(2.0)
    teacher = teacher.with_sampler(teacher.sampler.with_num_steps(2))
    found = pairs("pairs")
    assert torch.equal(found["x_0"], teacher.noise(4, range(10)))
    expected = teacher.sample(10, seed=4, decode=False)
    torch.testing.assert_close(found["x_1"], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found["label"], torch.arange(10) % 3)
    decoded = teacher.codec.decode(found["x_1"]).int()
    assert int((decoded - teacher.sample(10, seed=4).int()).abs().max()) <= 1


def test_a_pair_depends_on_seed_and_number_alone(points):
    for out, more in (
        ("a", []),
        ("b", ["chunk=3"]),
        ("c", ["shard_size=7"]),
        ("d", ["num_pairs=6"]),
        ("e", ["seed=1"]),
    ):
        assert main(["make-pairs", points, *FEW, *more, f"out={out}"]) == 0
    first = pairs("a", 6)
    for other in "bcd":
        assert torch.equal(pairs(other, 6)["x_0"], first["x_0"])
        torch.testing.assert_close(pairs(other, 6)["x_1"], first["x_1"], atol=1e-5, rtol=1e-5)
    assert not torch.equal(pairs("e", 6)["x_0"], first["x_0"])


def test_labels_are_those_asked_for(images):
    assert main(["make-pairs", images, *FEW, "label=[cow,0]", "out=pairs"]) == 0
    assert pairs("pairs")["label"].tolist() == [2, 0] * 5
    about = PairFolder.read("pairs")
    assert about.label_names == ("ant", "bee", "cow")
    assert about.codec == {"_target_": "flowgen.data.Pixels"}


def test_finished_shards_are_not_made_again_and_a_set_grows(points, capsys):
    assert main(["make-pairs", points, *FEW, "out=pairs"]) == 0
    before, content = files("pairs"), pairs("pairs")
    assert main(["make-pairs", points, *FEW, "out=pairs"]) == 0
    assert files("pairs") == before
    capsys.readouterr()
    assert main(["make-pairs", points, *FEW, "num_pairs=14", "out=pairs"]) == 0
    assert "14 pairs in 4 files" in capsys.readouterr().out
    after = files("pairs")
    for name in ("pairs_00000.safetensors", "pairs_00001.safetensors"):
        assert after[name] == before[name]
    for name, value in pairs("pairs", 14).items():
        torch.testing.assert_close(value[:10], content[name], atol=1e-5, rtol=1e-5)


def test_missing_and_damaged_shards_are_made_again(points):
    assert main(["make-pairs", points, *FEW, "out=pairs"]) == 0
    content = pairs("pairs")
    whole = Path("pairs/pairs_00001.safetensors").read_bytes()
    for harm in (lambda f: f.unlink(), lambda f: f.write_bytes(whole[: len(whole) // 2])):
        harm(Path("pairs/pairs_00001.safetensors"))
        assert main(["make-pairs", points, *FEW, "out=pairs"]) == 0
        assert all(torch.equal(value, content[name]) for name, value in pairs("pairs").items())


def test_interrupted_work_goes_on_after_the_last_whole_shard():
    pipeline = built(vector_config())

    def stop(done):
        if done > 6:
            raise KeyboardInterrupt

    settings = {"sampler": "its own"}
    with pytest.raises(KeyboardInterrupt):
        make_pairs(pipeline, "pairs", 10, shard_size=4, chunk=1, settings=settings, told=stop)
    assert PairFolder.read("pairs").counts == (4,)
    before, told = files("pairs"), []
    made = make_pairs(pipeline, "pairs", 10, shard_size=4, settings=settings, told=told.append)
    assert made.complete
    assert told == [4, 8, 10]
    assert files("pairs")["pairs_00000.safetensors"] == before["pairs_00000.safetensors"]
    make_pairs(pipeline, "whole", 10, shard_size=4, settings=settings)
    for name, value in pairs("whole").items():
        torch.testing.assert_close(pairs("pairs")[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_killed_work_leaves_whole_shards_and_goes_on(points):
    words = [points, "num_pairs=200000", "shard_size=64", "device=cpu", "out=pairs"]
    command = [sys.executable, "-m", "flowgen", "make-pairs", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not Path("pairs/pairs_00002.safetensors").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = PairFolder.read("pairs")
    assert found.sound() == found
    there = len(found)
    for name in sorted(Path("pairs").glob("pairs_*.safetensors")):
        assert len(load_file(name)["x_0"]) == 64
    # The same command with fewer pairs to make, so that it ends soon.
    more = ["num_pairs=" + str(there + 64), *words[2:]]
    assert main(["make-pairs", points, *more]) == 0
    assert len(PairFolder.read("pairs")) == there + 64


def test_folder_of_other_settings_is_refused(images, capsys):
    assert main(["make-pairs", images, *FEW, "out=pairs"]) == 0
    before = files("pairs")
    save(built(image_config(), seed=1), Path("other.safetensors"))
    for words, part in (
        (["seed=1"], "another seed"),
        (["sampler.num_steps=3"], "another sampler"),
        (["sampler=rk4"], "another sampler"),
        (["guidance.scale=2"], "another guidance"),
        (["label=1"], "another label"),
        (["shard_size=5"], "another shard_size"),
        (["num_pairs=4"], "holds 10 pairs already"),
        (["teacher=other.safetensors"], "another weights"),
    ):
        capsys.readouterr()
        assert main(["make-pairs", images, *FEW, *words, "out=pairs"]) == 2, words
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1, err
        assert part in err[0], err
    assert files("pairs") == before


def test_slips_take_one_line_and_leave_nothing(points, images, capsys):
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    for words, part in (
        ([], "teacher=<run folder or file> is required"),
        (["teacher=none"], "no checkpoint at 'none'"),
        ([points, "num_pairs=0"], "must be >= 1"),
        ([points, "shard_size=0"], "must be >= 1"),
        ([points, "seed=-1"], "seed must be >= 0"),
        ([points, "sampler=euler_maruyama"], "draws noise"),
        ([points, "label=1"], "unconditional"),
        ([images, "label=dog"], "dog"),
        ([points, "guidance.scale=2"], "needs a label-conditional or text-conditional model"),
        ([points, "out=full"], "holds no pairs"),
        ([points, "out=points.safetensors"], "holds no pairs"),
        ([points, "chunk=0"], "chunk must be >= 1"),
    ):
        capsys.readouterr()
        assert main(["make-pairs", *words, *FEW[2:]]) == 2, words
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1, (words, err)
        assert part in err[0], (words, err)
    assert not list(Path().rglob("pairs*"))


@pytest.mark.parametrize("method", ["reflow", "one_step", "k_step"])
def test_students_learn_from_the_pairs_and_decode_as_the_teacher(method, digits, capsys):
    few = ["num_pairs=100", "shard_size=40", "sampler.num_steps=2"]
    assert main(["make-pairs", f"teacher={digits}", *few, "out=pairs"]) == 0
    words = capsys.readouterr().out.splitlines()[-1].removeprefix("next: flowgen ").split()
    assert words[:3] == ["distill", f"teacher={digits}", "distill=reflow"]
    words[2] = f"distill={method}"
    assert main([*words, *SHORT, "run_dir=run"]) == 0
    student, teacher = (flowgen.load(folder, device="cpu") for folder in ("run", digits))
    assert student.codec == teacher.codec
    assert student.conditioner.names == teacher.conditioner.names
    assert student.sample(2).dtype == torch.uint8
    with Path("run/metrics.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    made = pairs("pairs", 100)
    cost = float((made["x_1"] - made["x_0"]).square().mean())
    assert float(row["coupling/cost"]) == pytest.approx(cost, rel=0.1)
    assert main(["sample", "checkpoint=run", "sampler=euler_maruyama", "out=a.pt"]) == 2
    assert "score" in capsys.readouterr().err


def test_pairs_of_another_teacher_are_refused_for_training(digits, images, capsys):
    assert main(["make-pairs", images, *FEW, "out=pairs"]) == 0
    more = [*SHORT, "coupling=made_pairs", "coupling.folder=pairs", "run_dir=run"]
    words = ["distill", f"teacher={digits}", "distill=reflow", *more]
    capsys.readouterr()
    assert main(words) == 2
    assert "has 3 labels" in capsys.readouterr().err
    assert main([*words, "coupling.folder=none"]) == 2
    assert "make pairs by flowgen make-pairs" in capsys.readouterr().err
    assert not Path("run").exists()


def test_pairs_lie_beside_their_teacher_by_default(digits):
    few = ["num_pairs=3", "sampler.num_steps=1"]
    assert main(["make-pairs", f"teacher={digits}", *few]) == 0
    about = json.loads((digits / "pairs" / "pairs.json").read_text())
    assert about["counts"] == [3]
    assert about["settings"]["sampler"]["num_steps"] == 1
