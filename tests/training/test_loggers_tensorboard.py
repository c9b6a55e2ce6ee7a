"""TensorBoard holds the same names as metrics.csv, pictures, tables and the config."""

import csv
import json

import numpy as np
import pytest
from lightning.pytorch import Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from flowgen.training import SampleGrid
from flowgen.training.loggers import MetricsFile, resume_at, show_picture, show_table, tensorboard
from runs import Rows, flow
from small import image_config


def events(folder):
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    found.Reload()
    return found


def test_names_and_values_are_those_of_metrics_csv(tmp_path):
    loggers = [MetricsFile(tmp_path), tensorboard(tmp_path)]
    for logger in loggers:
        logger.log_hyperparams({"seed": 3, "model": {"width": 16}})
    trainer = Trainer(
        accelerator="cpu",
        max_steps=4,
        max_epochs=-1,
        logger=loggers,
        callbacks=[SampleGrid(tmp_path, every_n_steps=4, num_samples=3, columns=3)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=2,
        default_root_dir=tmp_path,
    )
    trainer.fit(flow(image_config()), DataLoader(Rows(True), batch_size=None))
    found = events(tmp_path)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = set(rows[0]) - {"step"}
    assert names <= set(found.Tags()["scalars"])
    for name in names:
        logged = [(event.step, event.value) for event in found.Scalars(name)]
        expected = [(int(row["step"]), float(row[name])) for row in rows]
        assert np.allclose(logged, expected, rtol=1e-6, equal_nan=True)
    (picture,) = found.Images("samples")
    with Image.open(tmp_path / "samples" / "step_0000004.png") as ours:
        assert (picture.width, picture.height, picture.step) == (*ours.size, 4)
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text) == {"seed": 3, "model": {"width": 16}}


def test_what_came_after_the_checkpoint_is_hidden_by_a_resume(tmp_path):
    for start, factor in ((0, 1.0), (2, 10.0)):
        logger = tensorboard(tmp_path)
        resume_at([logger], start)
        for step in range(start + 1, start + 4):
            logger.log_metrics({"loss": factor * step}, step)
        logger.finalize("success")
    logged = {event.step: event.value for event in events(tmp_path).Scalars("loss")}
    assert logged == {1: 1.0, 2: 2.0, 3: 30.0, 4: 40.0, 5: 50.0}
    assert len(events(tmp_path).Scalars("loss")) == 5


def test_tables_are_text_and_a_picture_that_has_gone_is_left_out(tmp_path):
    logger = tensorboard(tmp_path)
    show_table([logger], "evaluation", {"w2": {"value": 0.5}, "npe": {"note": "b"}}, 7)
    show_picture([logger], "samples", tmp_path / "none.png", 7)
    logger.finalize("success")
    (event,) = events(tmp_path).Tensors("evaluation/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert lines == [
        "|  | value | note |",
        "| --- | --- | --- |",
        "| w2 | 0.5 |  |",
        "| npe |  | b |",
    ]
    assert logger.failure is None


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("a file")
    logger = tensorboard(tmp_path)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.finalize("success")
    assert logger.failure is not None
    assert caplog.text.count("TensorBoard failed") == 1


def test_a_writer_that_fails_in_the_middle_costs_one_line(tmp_path, caplog, monkeypatch):
    logger = tensorboard(tmp_path)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.finalize("success")
    logger.log_metrics({"loss": 2.0}, 2)

    def full(*words, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logger.service._logger.experiment, "add_scalar", full)
    logger.log_metrics({"loss": 3.0}, 3)
    logger.log_metrics({"loss": 4.0}, 4)
    logger.finalize("failed")
    assert caplog.text.count("TensorBoard failed") == 1
    assert "No space left" in caplog.text
    assert {event.step for event in events(tmp_path).Scalars("loss")} >= {1}


@pytest.mark.parametrize("name", ["loss", "eval/w2", "ms/forward"])
def test_names_with_slashes_are_kept(tmp_path, name):
    logger = tensorboard(tmp_path)
    logger.log_metrics({name: 0.5}, 1)
    logger.finalize("success")
    assert events(tmp_path).Tags()["scalars"] == [name]
