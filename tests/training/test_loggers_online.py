"""Weights & Biases online, against a small server of our own that can die during a run."""

import time

import pytest
from PIL import Image

import wandb_files
from flowgen.training.loggers import resume_at, show_picture, wandb
from wandb_server import Server


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = Server()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    yield server
    server.close()


def losses(rows):
    return {row["trainer/global_step"]: row["loss"] for row in rows if "loss" in row}


def test_a_resumed_run_goes_on_in_the_same_run(tmp_path, server, caplog):
    Image.new("L", (4, 4), 200).save(tmp_path / "a.png")
    for start in (0, 2):
        logger = wandb(tmp_path / "run", patience=60.0)  # however busy the machine is
        logger.log_hyperparams({"seed": 3})
        resume_at([logger], start)
        for step in range(start + 1, start + 4):
            logger.log_metrics({"loss": step / 3}, step)
        show_picture([logger], "samples", tmp_path / "a.png", start + 3)
        logger.finalize("success")
        assert logger.failure is None
    run_id = (tmp_path / "run" / "wandb" / "run_id").read_text().strip()
    assert list(server.history) == [run_id]
    rows = server.history[run_id]
    assert losses(rows) == {step: step / 3 for step in range(1, 6)}
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    assert server.config[run_id]["seed"]["value"] == 3
    assert any(name.startswith("media/images/samples") for name in server.files)
    assert caplog.text.count(f"Weights & Biases: {server.url}/me/flowgen/runs/{run_id}") == 2


@pytest.mark.parametrize("sort", ["gone", "hangs"])
def test_a_service_that_dies_in_the_middle_costs_the_patience(tmp_path, server, caplog, sort):
    patience = 9.0
    logger = wandb(tmp_path, patience=patience)
    logger.log_metrics({"loss": 0.0}, 0)
    if sort == "gone":
        server.close()
    server.hangs = True
    start = time.monotonic()
    for step in range(1, 5):
        logger.log_metrics({"loss": step / 3}, step)
    assert time.monotonic() - start < 1.0
    logger.finalize("success")
    assert time.monotonic() - start < patience + 2.0
    server.hangs = False
    assert logger.failure is None
    assert "to complete it: wandb sync" in caplog.text
    _, _, history = wandb_files.read(tmp_path)
    assert losses(history) == {step: step / 3 for step in range(5)}


def test_a_service_that_hangs_after_its_first_answer_makes_the_run_offline(
    tmp_path, server, caplog
):
    server.hangs = True
    patience = 9.0
    logger = wandb(tmp_path, patience=patience)
    start = time.monotonic()
    for step in range(5):
        logger.log_metrics({"loss": step / 3}, step)
    logger.finalize("success")
    assert time.monotonic() - start < patience + 2.0
    server.hangs = False
    assert "Weights & Biases is offline" in caplog.text
    assert losses(wandb_files.read(tmp_path)[2]) == {step: step / 3 for step in range(5)}
