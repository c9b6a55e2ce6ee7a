"""The worked example of CONTRIBUTING.md: its three files work, in flowgen and outside of it."""

import re
import sys

import pytest
import torch

import flowgen
import flowgen.objectives
from documents import ROOT, blocks
from flowgen.cli import config_dir
from flowgen.cli.compose import composed
from flowgen.cli.flags import parse_flags
from flowgen.cli.main import main
from flowgen.cli.overrides import OverrideCheck
from flowgen.cli.verbs import VERBS
from flowgen.core import Pair
from flowgen.models import MLP
from flowgen.pipeline import build

PAGE = ROOT / "CONTRIBUTING.md"
CODE, TEST = blocks(PAGE, "python")
(YAML,) = blocks(PAGE, "yaml")


def test_the_files_are_where_the_rules_want_them():
    text = PAGE.read_text()
    places = re.findall(r"^`([\w/]+\.(?:py|yaml))`:$", text, re.M)
    assert places == [
        "src/flowgen/objectives/log_cosh.py",
        "configs/distance/log_cosh.yaml",
        "tests/objectives/test_log_cosh.py",
    ]
    for place in places:
        assert not (ROOT / place).exists(), "the example must stay an example"


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """The example as part of flowgen: its module in the package, its YAML in the tree."""
    (tmp_path / "log_cosh.py").write_text(CODE)
    monkeypatch.setattr(
        flowgen.objectives, "__path__", [*flowgen.objectives.__path__, str(tmp_path)]
    )
    yield write_configs(tmp_path, YAML)
    sys.modules.pop("flowgen.objectives.log_cosh", None)
    vars(flowgen.objectives).pop("log_cosh", None)


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The example in a project of the user's: working directory, module, configs."""
    package = tmp_path / "my_flows"
    package.mkdir()
    (package / "log_cosh.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield write_configs(tmp_path, YAML.replace("flowgen.objectives", "my_flows"))
    for name in ("my_flows.log_cosh", "my_flows"):
        sys.modules.pop(name, None)


def test_its_test_passes(inside, capfd):
    file = inside.parent / "test_log_cosh.py"
    file.write_text(TEST)
    (inside.parent / "pytest.ini").write_text("[pytest]\n")
    without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "faulthandler", "timeout")]
    code = pytest.main(["-q", "--import-mode=importlib", *without, str(file)])
    assert code == 0, capfd.readouterr().out
    assert "7 passed" in capfd.readouterr().out


def write_configs(folder, text):
    choice = folder / "my_configs" / "distance" / "log_cosh.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text(text)
    return folder / "my_configs"


def objective_of(configs, *overrides):
    """Compose and build the objective of the command line that the page shows."""
    words = ["--config-dir", str(configs), "distance=log_cosh", *overrides]
    line = parse_flags(words, "train", config_dir())
    OverrideCheck(line.tree, "train", filled_in=VERBS["train"].filled_in)(line.overrides)
    with composed(line.tree, "train", line.overrides) as config:
        from omegaconf import OmegaConf

        node = OmegaConf.to_container(config.objective, resolve=True)
        return build(node, trust_code=True)


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_its_config_trains(place, request):
    configs = request.getfixturevalue(place)
    objective = objective_of(configs, "distance.scale=0.5")
    assert objective.distance.scale == 0.5

    generator = torch.Generator().manual_seed(0)
    x_0, x_1 = torch.randn(2, 8, 3, generator=generator)
    model = MLP([3], width=8, depth=1)
    loss = objective(model, Pair(x_0, x_1), generator=generator).total()
    loss.backward()
    assert float(loss.detach()) > 0
    assert all(p.grad is not None for p in model.parameters())


def test_its_command_runs_from_a_project(outside):
    command = [
        "train",
        "--config-dir",
        "my_configs",
        "distance=log_cosh",
        "data=moons",
        "model=mlp",
    ]
    command += ["data.num_train=64", "data.batch_size=32", "trainer=cpu", "trainer.max_steps=2"]
    command += ["callbacks=quiet", "run_dir=run"]
    assert main(command) == 0
    assert flowgen.load("run").sample(3).shape == (3, 2)
