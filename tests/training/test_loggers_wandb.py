"""Weights & Biases: what a run logged is read back; dead services cost little and stop nothing."""

import csv
import json
import math
import os
import signal
import socket
import sys
import time
from contextlib import contextmanager

import pytest
from lightning.pytorch import Trainer
from PIL import Image
from torch.utils.data import DataLoader

import wandb_files
from flowgen.cli import main
from flowgen.core import InputError
from flowgen.training import SampleGrid
from flowgen.training.loggers import (
    MetricsFile,
    log_figures,
    resume_at,
    show_picture,
    show_table,
    wandb,
    wandb_service,
)
from runs import Rows, flow
from small import vector_config


@pytest.fixture(autouse=True)
def _own_settings(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))


def csv_rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def history_by_step(history):
    merged = {}
    for item in history:
        merged.setdefault(item["trainer/global_step"], {}).update(item)
    return merged


def test_an_offline_run_holds_what_metrics_csv_holds_and_more(tmp_path):
    loggers = [MetricsFile(tmp_path), wandb(tmp_path, mode="offline", tags=["a"], group="g")]
    config = {"seed": 3, "model": {"width": 16, "shape": [2]}, "name": None}
    for logger in loggers:
        logger.log_hyperparams(config)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=6,
        max_epochs=-1,
        logger=loggers,
        callbacks=[SampleGrid(tmp_path, every_n_steps=3, num_samples=4)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
        default_root_dir=tmp_path,
    )
    trainer.fit(flow(vector_config()), DataLoader(Rows(False), batch_size=None))
    log_figures(loggers, {"eval/w2": 0.125}, 6)
    show_table(loggers, "evaluation", {"w2": {"value": 0.5, "floor": 0.1}, "npe": {"note": "b"}}, 6)
    for logger in loggers:
        logger.finalize("success")

    run_id, read, history = wandb_files.read(tmp_path)
    assert run_id == (tmp_path / "wandb" / "run_id").read_text().strip()
    assert {name: read[name] for name in config} == config
    steps = history_by_step(history)
    for row in csv_rows(tmp_path):
        item = steps[int(row["step"])]
        for name, text in row.items():
            logged = item.get("trainer/global_step" if name == "step" else name)
            if text == "":
                assert logged is None
            elif text == "nan":
                assert logged is not None
                assert math.isnan(float(logged))
            else:
                assert logged == float(text), name
    assert {"loss", "lr", "grad_norm", "loss/t0.9"} <= set(steps[2])
    assert steps[6]["eval/w2"] == 0.125

    folder, later = sorted(tmp_path.glob("wandb/offline-run-*"))
    for step in (3, 6):
        picture = steps[step]["samples"]
        assert picture["captions"] == [f"step {step}"]
        with Image.open(folder / "files" / picture["filenames"][0]) as image:
            drawn = tmp_path / "samples" / f"step_{step:07d}.png"
            with Image.open(drawn) as ours:
                assert image.tobytes() == ours.tobytes()
    table = json.loads((later / "files" / steps[6]["evaluation"]["path"]).read_text())
    assert table["columns"] == ["", "value", "floor", "note"]
    assert table["data"] == [["w2", 0.5, 0.1, None], ["npe", None, None, "b"]]
    run = next(r.run for r in wandb_files.records(next(folder.glob("*.wandb"))) if r.run.run_id)
    assert (run.display_name, run.run_group, run.job_type) == (tmp_path.name, "g", "train")
    assert (list(run.tags), run.project) == (["a"], "flowgen")


def test_a_resumed_run_is_the_same_run_and_later_values_stand(tmp_path):
    for start in (0, 2):
        logger = wandb(tmp_path, mode="offline")
        resume_at([logger], start)
        for step in range(start + 1, start + 4):
            logger.log_metrics({"loss": step / 3}, step)
        logger.finalize("success")
    ids = {
        record.run.run_id
        for file in tmp_path.glob("wandb/*run-*/*.wandb")
        for record in wandb_files.records(file)
        if record.run.run_id
    }
    assert ids == {(tmp_path / "wandb" / "run_id").read_text().strip()}
    _, _, history = wandb_files.read(tmp_path)
    steps = history_by_step(history)
    assert {step: item["loss"] for step, item in steps.items()} == {i: i / 3 for i in range(1, 6)}


def test_without_a_key_it_goes_offline(tmp_path, caplog):
    logger = wandb(tmp_path)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.finalize("success")
    assert "Weights & Biases is offline (no key is set); to upload: wandb sync" in caplog.text
    assert len(wandb_files.read(tmp_path)[2]) == 1


@contextmanager
def dead_service(sort):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if sort == "closed":
            server.close()
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("sort", ["closed", "silent"])
def test_a_service_that_does_not_answer_makes_the_run_offline(tmp_path, monkeypatch, caplog, sort):
    monkeypatch.setattr(wandb_service, "ANSWER_SECONDS", 0.5)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with dead_service(sort) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        logger = wandb(tmp_path, mode="online")
        start = time.monotonic()
        logger.log_metrics({"loss": 1.0}, 1)
        logger.finalize("success")
        assert time.monotonic() - start < 15.0
    assert f"is offline ({url} does not answer" in caplog.text
    assert len(wandb_files.read(tmp_path)[2]) == 1


def client_process():
    from wandb.sdk import wandb_setup

    return wandb_setup._singleton._connection._proc._process.pid


@pytest.mark.parametrize("sort", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_that_dies_in_the_middle_is_started_again(tmp_path, caplog, sort):
    patience = 8.0
    logger = wandb(tmp_path, mode="offline", patience=patience)
    logger.log_hyperparams({"seed": 1})
    logger.log_metrics({"loss": 1.0}, 1)
    time.sleep(1.0)
    os.kill(client_process(), sort)
    start = time.monotonic()
    for step in range(2, 5):
        logger.log_metrics({"loss": float(step)}, step)
    assert time.monotonic() - start < 1.0
    logger.finalize("success")
    assert time.monotonic() - start < patience + 2.0
    assert caplog.text.count("Weights & Biases is offline") == 2
    assert logger.failure is None
    _, config, history = wandb_files.read(tmp_path)
    assert config["seed"] == 1
    steps = history_by_step(history)
    assert {step: item["loss"] for step, item in steps.items()} == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}


def test_a_picture_that_has_gone_is_left_out(tmp_path, caplog):
    logger = wandb(tmp_path, mode="disabled")
    show_picture([logger], "samples", tmp_path / "none.png", 1)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.finalize("success")
    assert not [record for record in caplog.records if record.name.startswith("flowgen")]
    assert not list(tmp_path.glob("wandb/*run-*"))


def test_what_cannot_be_used_is_told_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="mode must be one of auto, online"):
        wandb(tmp_path, mode="onlin")
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(InputError, match="WANDB_MODE must be one of auto"):
        wandb(tmp_path)
    for asked, mode in (("dryrun", "offline"), ("run", "online"), ("disabled", "disabled")):
        monkeypatch.setenv("WANDB_MODE", asked)
        assert wandb(tmp_path).service.mode == mode
        assert wandb(tmp_path, mode="offline").service.mode == "offline"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_missing_package_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, capfd, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, name, None)
    words = ["train", "experiment=moons", "data.num_train=300", "data.num_test=50"]
    assert main([*words, f"logger={name}"]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"logger.{name}: needs {name}" in errors[0]
    assert "pip install" in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_a_key_counts_for_its_host_only(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine other.example login user password 1\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert wandb_service.why_not_online() == "no key is set"
    monkeypatch.setenv("WANDB_BASE_URL", "http://other.example:xyz")
    assert "does not answer" in wandb_service.why_not_online()
