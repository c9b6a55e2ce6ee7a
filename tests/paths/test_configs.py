from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from flowgen.paths import Path as FlowPath
from flowgen.paths import Velocity, convert
from flowgen.paths.predictions import Prediction
from kinetic_data import write_table

CONFIGS = Path(__file__).parents[2] / "configs"


def build(file):
    return instantiate(OmegaConf.load(file))


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "kinetic.json")


@pytest.mark.parametrize("file", sorted((CONFIGS / "path").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_path_builds_with_finite_coefficients(file, table):
    config = OmegaConf.load(file)
    if OmegaConf.is_missing(config.schedule, "file"):
        config.schedule.file = str(table)
    path = instantiate(config)
    assert isinstance(path, FlowPath)
    assert path.coefficients(torch.tensor(path.domain)).wronskian.isfinite().all()


@pytest.mark.parametrize(
    "file", sorted((CONFIGS / "prediction").glob("*.yaml")), ids=lambda f: f.stem
)
def test_every_prediction_builds_and_converts_there_and_back(file):
    prediction, path = build(file), build(CONFIGS / "path" / "trig.yaml")
    assert isinstance(prediction, Prediction)
    c = path.coefficients(torch.tensor([0.3, 0.8]))
    x_t, v = torch.tensor([[0.3], [-1.0]]), torch.tensor([[1.2], [0.4]])
    y = convert(v, x_t, c, Velocity(), prediction)
    torch.testing.assert_close(convert(y, x_t, c, prediction, Velocity()), v)
