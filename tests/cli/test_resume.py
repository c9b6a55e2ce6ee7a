"""resume and checkpoint on the command line: which run goes on, what is refused, what is told."""

import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import flowgen
from flowgen.cli import main
from flowgen.pipeline import save
from flowgen.training import run_record
from two_processes import CommandLine, free_port

ROOT = Path(__file__).resolve().parents[2]
KILL_TEST = runpy.run_path(str(ROOT / "benchmarks" / "kill_test.py"))
MOONS = [
    *("experiment=moons", "data.num_train=100", "data.num_test=20", "data.batch_size=16"),
    *("model.width=8", "model.depth=1", "trainer=cpu", "trainer.log_every_n_steps=2"),
    *("callbacks=quiet", "callbacks.checkpoints.every_n_steps=3", "trainer.max_steps=8"),
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that was stopped after five steps of eight, and the same one never stopped."""
    place = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", *MOONS, "run_dir=runs/moons/whole"]) == 0
        stop_after(patch, 5)
        assert main(["train", *MOONS, "run_dir=runs/moons/stopped"]) == 128 + signal.SIGTERM
    return place


def stop_after(patch, step, signum=signal.SIGTERM):
    from flowgen.training.module import FlowModule

    whole = FlowModule.learn

    def learn(self, batch):
        whole(self, batch)
        if self.global_step == step:
            os.kill(os.getpid(), signum)

    patch.setattr(FlowModule, "learn", learn)


@pytest.fixture
def place(begun, tmp_path, monkeypatch):
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(folder):
    return json.loads((Path(folder) / "run.json").read_text())


def content(folder, name="last"):
    return torch.load(Path(folder) / "checkpoints" / f"{name}.ckpt", weights_only=True)


def refused(capfd, *words):
    capfd.readouterr()
    assert main(["train", *words]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def assert_ends_like_the_whole(folder):
    assert (
        KILL_TEST["unequal"](
            content("runs/moons/whole")["state_dict"], content(folder)["state_dict"], ""
        )
        == []
    )
    one, other = (
        KILL_TEST["losses"](Path(run) / "metrics.csv") for run in ("runs/moons/whole", folder)
    )
    assert one == other


STOPPED = "runs/moons/stopped"


def test_a_stopped_run_says_how_it_goes_on(begun):
    found = record(begun / STOPPED)
    assert found["status"] == "interrupted"
    assert found["experiment"] == "moons"
    assert found["command"][:3] == ["flowgen", "train", "experiment=moons"]
    assert found["max_steps"] == 8
    assert found["torch"] == torch.__version__
    [session] = found["sessions"]
    assert (session["from_step"], session["to_step"], session["reason"]) == (0, 5, "SIGTERM")
    assert content(begun / STOPPED)["global_step"] == 5


@pytest.mark.parametrize(
    "words",
    [
        [f"resume={STOPPED}"],
        [*MOONS, f"resume={STOPPED}", "data.num_workers=2", "seed=0"],
        [*MOONS, "resume=auto"],
        [*MOONS, "resume=auto", f"run_dir={STOPPED}", "callbacks.checkpoints.every_n_steps=1"],
        [f"resume={STOPPED}", "callbacks.checkpoints.keep_last=4", "logger=csv", "debug=true"],
    ],
    ids=["run", "workers", "auto", "auto in a folder", "callbacks"],
)
def test_it_goes_on_to_the_same_end(words, place, capsys):
    shutil.rmtree(place / "runs/moons/whole2", ignore_errors=True)
    assert main(["train", *words]) == 0
    assert "going on after step 5" in capsys.readouterr().out
    assert_ends_like_the_whole(STOPPED)
    found = record(STOPPED)
    assert found["status"] == "finished"
    assert [(s["from_step"], s["to_step"]) for s in found["sessions"]] == [(0, 5), (5, 8)]
    assert sorted(path.name for path in Path("runs/moons").iterdir()) == ["stopped", "whole"]


def test_a_moved_run_writes_where_it_is_now(place):
    Path(STOPPED).rename("moved")
    assert main(["train", "resume=moved"]) == 0
    assert not Path(STOPPED).exists()
    assert_ends_like_the_whole("moved")


def test_ctrl_c_is_130_and_prints_the_command_that_goes_on(place, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 7, signal.SIGINT)
        assert main(["train", f"resume={STOPPED}"]) == 130
    assert f"go on with: flowgen train resume={STOPPED}" in capsys.readouterr().out
    assert [s["reason"] for s in record(STOPPED)["sessions"]] == ["SIGTERM", "SIGINT"]
    assert main(["train", f"resume={STOPPED}"]) == 0
    assert_ends_like_the_whole(STOPPED)


def test_a_signal_that_another_program_handles_is_passed_on(place, monkeypatch):
    """submitit puts a job back into the queue: once the checkpoint is there, not before."""
    seen = []

    def handle(signum, frame):
        seen.append((signum, content(STOPPED)["global_step"], record(STOPPED)["status"]))

    before = signal.signal(signal.SIGUSR2, handle)
    try:
        with monkeypatch.context() as patch:
            stop_after(patch, 7, signal.SIGUSR2)
            assert main(["train", f"resume={STOPPED}"]) == 128 + signal.SIGUSR2
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert seen == [(signal.SIGUSR2, 7, "interrupted")]


def test_auto_starts_a_new_run_where_there_is_none_of_this_config(place, capsys):
    assert main(["train", *MOONS, "optimizer.lr=0.01", "resume=auto"]) == 0
    out = capsys.readouterr().out
    assert "resume=auto: runs/moons/stopped is unfinished and differs in optimizer.lr" in out
    assert "no unfinished run of this config, so a new one starts" in out
    assert len(list(Path("runs/moons").iterdir())) == 3


def test_auto_has_nothing_to_do_where_the_run_is_finished(place, capsys):
    shutil.rmtree(STOPPED)
    before = content("runs/moons/whole")
    for words in ([], ["run_dir=runs/moons/whole"]):
        assert main(["train", *MOONS, "resume=auto", *words]) == 0
        assert "has taken all its 8 steps: nothing to do" in capsys.readouterr().out
    assert content("runs/moons/whole")["global_step"] == before["global_step"]
    assert len(list(Path("runs/moons").iterdir())) == 1


def test_auto_in_a_folder_without_a_run_starts_one(place, capsys):
    assert main(["train", *MOONS, "resume=auto", "run_dir=new"]) == 0
    assert "a new one starts" in capsys.readouterr().out
    # Killed before its first checkpoint: it begins again in the same folder.
    shutil.rmtree("new/checkpoints")
    assert main(["train", *MOONS, "resume=auto", "run_dir=new"]) == 0
    assert content("new")["global_step"] == 8


def test_a_finished_run_goes_on_when_it_is_given_more_steps(place, capfd):
    assert "has taken 8 of its 8 steps" in refused(capfd, "resume=runs/moons/whole")
    assert main(["train", "resume=runs/moons/whole", "trainer.max_steps=12"]) == 0
    assert "ends at step 12, not 8, and its learning rate follows" in capfd.readouterr().out
    assert content("runs/moons/whole")["global_step"] == 12
    config = (place / "runs/moons/whole/config.yaml").read_text()
    assert "total_steps: 12" in config
    assert "max_steps: 12" in config
    assert "resume: null" in config


def test_a_run_killed_after_its_last_step_is_finished(place, capfd):
    file = place / "runs/moons/whole/run.json"
    file.write_text(json.dumps(record("runs/moons/whole") | {"status": "running"}))
    assert "nothing to do" in refused(capfd, "resume=runs/moons/whole")
    assert record("runs/moons/whole")["status"] == "finished"


REFUSALS = {
    "another rate": (
        [f"resume={STOPPED}", "optimizer.lr=0.5"],
        "optimizer.lr would change the run",
    ),
    "another model": ([f"resume={STOPPED}", "model=mlp_image"], "model would change the run"),
    "another recipe": (
        [f"resume={STOPPED}", "experiment=digits"],
        "experiment=digits would change",
    ),
    "another batch": ([f"resume={STOPPED}", "data.batch_size=32"], "data.batch_size would change"),
    "another seed": ([f"resume={STOPPED}", "seed=4"], "seed would change the run"),
    "no run": (["resume=nowhere"], "resume=nowhere is no run folder"),
    "a file": ([f"resume={STOPPED}/checkpoints/last.ckpt"], "is no run folder"),
    "resume and checkpoint": ([f"resume={STOPPED}", f"checkpoint={STOPPED}"], "give one of them"),
    "auto and checkpoint": (["resume=auto", f"checkpoint={STOPPED}"], "give one of them"),
    "auto in another run": (
        [*MOONS, "clip=2", "resume=auto", f"run_dir={STOPPED}"],
        "holds another run, which differs in clip",
    ),
    "weights of another network": (
        [*MOONS, "model.width=9", f"checkpoint={STOPPED}"],
        "weights do not fit this run",
    ),
    "no checkpoint": ([*MOONS, "checkpoint=nowhere"], "no checkpoint at 'nowhere'"),
    "folder in use": ([*MOONS, f"run_dir={STOPPED}"], f"go on with it by resume={STOPPED}"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_makes_another_run_is_refused_in_one_line(case, place, capfd):
    before = sorted(str(path) for path in place.rglob("*"))
    words, message = REFUSALS[case]
    assert message in refused(capfd, *words)
    assert sorted(str(path) for path in place.rglob("*")) == before


def test_a_run_that_is_being_trained_is_left_alone(place, capfd):
    mine = record(STOPPED) | {"status": "running", "process": run_record.process()}
    (place / STOPPED / "run.json").write_text(json.dumps(mine))
    assert f"is being trained by process {os.getpid()}" in refused(capfd, f"resume={STOPPED}")
    assert "being trained" in refused(capfd, *MOONS, "resume=auto", f"run_dir={STOPPED}")
    assert main(["train", *MOONS, "resume=auto"]) == 0
    told = capfd.readouterr().out
    assert f"resume=auto: {STOPPED} is being trained by another process" in told
    for process in (
        {"host": socket.gethostname(), "pid": 2**22 + 5, "born": "1"},
        {"host": socket.gethostname(), "pid": os.getpid(), "born": "1"},  # a number used again
        None,
    ):
        (place / STOPPED / "run.json").write_text(json.dumps(mine | {"process": process}))
        assert not run_record.is_training(place / STOPPED)


def test_a_run_on_another_host_is_known_by_its_sign_of_life(place, monkeypatch):
    monkeypatch.setattr(run_record, "HEARTBEAT", 0.3)
    folder = place / STOPPED
    other = {"host": "elsewhere", "pid": 1, "born": "1"}
    (folder / "run.json").write_text(
        json.dumps(record(STOPPED) | {"status": "running", "process": other})
    )
    assert not run_record.is_training(folder)
    alive = run_record.RunRecord(folder, {}, from_step=5)
    alive.content["process"] = other
    (folder / "run.json").write_text(json.dumps(alive.content))
    assert run_record.is_training(folder)
    alive.end("interrupted", 5)
    assert not run_record.is_training(folder)


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(place, caplog, capfd):
    folder = place / STOPPED / "checkpoints"
    for name in ("last", "step_0000005"):  # two names of the same bytes, where nothing is copied
        damage(folder / f"{name}.ckpt")
    assert main(["train", f"resume={STOPPED}"]) == 0
    [told] = [text for text in caplog.messages if "going on from" in text]
    assert "step_0000003.ckpt" in told
    assert "last.ckpt" in told
    assert "step_0000005.ckpt" in told
    assert_ends_like_the_whole(STOPPED)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    message = refused(capfd, f"resume={STOPPED}", "trainer.max_steps=9")
    assert "has no checkpoint to go on from" in message


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_new_run_starts_from_weights_raw_from_raw_and_averaged_from_averaged(place):
    words = [*MOONS, "trainer.max_steps=1", "optimizer.lr=1e-12", "ema_decay=0.0", "run_dir=new"]
    assert main(["train", *words, f"checkpoint={STOPPED}", "prediction=velocity"]) == 0
    start, old = content("new", "step_0000000"), content(STOPPED)
    assert start["global_step"] == 0
    assert start["optimizer_states"][0]["state"] == {}
    assert KILL_TEST["unequal"](start["state_dict"], old["state_dict"], "") == []
    raw, ema = (
        [v for k, v in old["state_dict"].items() if k.startswith(prefix)]
        for prefix in ("pipeline.field.", "ema.field.")
    )
    assert not all(torch.equal(a, b) for a, b in zip(raw, ema, strict=True))
    assert f"checkpoint: {STOPPED}" in (place / "new/config.yaml").read_text()
    save(flowgen.load(STOPPED, device="cpu"), "exported.safetensors")
    assert main(["train", *words, "run_dir=third", "checkpoint=exported.safetensors"]) == 0
    third = content("third", "step_0000000")["state_dict"]
    for name, value in old["state_dict"].items():
        if name.startswith("ema.field."):
            assert torch.equal(third[name], value)
            assert torch.equal(third[name.replace("ema.", "pipeline.")], value)


def test_a_full_disk_before_the_first_step_is_one_line(place, monkeypatch, capfd):
    def fsync(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("flowgen.pipeline.checkpoint.writing.os.fsync", fsync)
        assert "No space left on device" in refused(capfd, *MOONS, "run_dir=new")
    with monkeypatch.context() as patch:
        patch.setattr("flowgen.training.checkpoint_files.torch.save", lambda *_: fsync(0))
        assert "the first checkpoint cannot be written" in refused(capfd, *MOONS, "run_dir=two")
    assert record("two")["status"] == "failed"
    assert not list(Path("two/checkpoints").iterdir())


def test_accumulated_micro_batches_learn_what_the_whole_batch_teaches(place):
    words = [*MOONS, "data.batch_size=64", "trainer.max_steps=4", "clip=inf"]
    for run, micro in (("one", "null"), ("four", "16")):
        assert main(["train", *words, f"run_dir={run}", f"micro_batch={micro}"]) == 0
    one, four = (content(run)["state_dict"] for run in ("one", "four"))
    # Sums in another order; AdamW's first steps hold the differences near the rate of 1e-3.
    for name, value in one.items():
        assert torch.allclose(value, four[name], atol=1e-5), name


@pytest.mark.slow
def test_five_kills_change_nothing(tmp_path):
    """The benchmark itself starts an interpreter for each session, which takes most of its time."""

    def start(place, *words):
        line = ["train", "--config-dir", "kill_configs", *KILL_TEST["COMMAND"], *words]
        return CommandLine(line, place)

    found = KILL_TEST["kill_test"](KILL_TEST["prepare"](tmp_path), seed=7, start=start)
    assert found["equal"], found
    kills = found["log"][:-1]
    assert len(kills) == 5
    assert [entry["torn_files"] for entry in kills].count(1) == 1  # killed half way through a file
    assert found["log"][-1]["torn_files"] == 0


@pytest.mark.slow
def test_two_processes_leave_together_and_go_on_together(tmp_path):
    words = [*MOONS, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    command = [sys.executable, "-m", "flowgen", "train", *words, "trainer.max_steps=600"]

    def start(*more):
        return subprocess.Popen(
            [*command, *more],
            cwd=tmp_path,
            env=os.environ | {"MASTER_PORT": str(free_port())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    whole = start("run_dir=whole")
    out, _ = whole.communicate(timeout=200)
    assert whole.returncode == 0, out
    stopped = start("run_dir=stopped")
    KILL_TEST["wait_for"](stopped, lambda: KILL_TEST["step_of"](tmp_path / "stopped") >= 4)
    stopped.send_signal(signal.SIGTERM)
    out, _ = stopped.communicate(timeout=60)
    assert stopped.returncode == 128 + signal.SIGTERM, out
    assert record(tmp_path / "stopped")["status"] == "interrupted"
    again = start("run_dir=stopped", "resume=auto")
    out, _ = again.communicate(timeout=200)
    assert again.returncode == 0, out
    assert "going on after step" in out
    assert KILL_TEST["differences"](tmp_path / "whole", tmp_path / "stopped") == []
