"""A small config tree, and a verb that records the config it is run with."""

import logging
import sys
from types import ModuleType

import pytest

FILES = {
    "train": """
# Train.
defaults:
  - path: linear
  - prediction: velocity
  - prediction@loss_space: velocity
  - sampler: heun
  - optimizer: adam
  - trainer: cpu
  - _self_
  - optional experiment: null
name: null
seed: 0
compile: false
clip: 1.0
mode: auto
channels: [32, 64]
width: ${trainer.max_steps}
network: ${path}
facts:
  shape: ???
""",
    "sample": """
# Sample.
defaults:
  - sampler: heun
  - optional path: null
  - _self_
checkpoint: ???
num_samples: 64
guidance:
  scale: 1.0
""",
    "evaluate": "checkpoint: ???\n",
    "path/linear": "# The straight path.\n_target_: builtins.dict\nsigma_min: 0.0\n",
    "path/trig": "# Quarter circle.\n_target_: builtins.dict\nschedule:\n  power: 2\n",
    "path/vp": "# @package _global_.path\n\n# Variance preserving.\n_target_: builtins.dict\n",
    "prediction/velocity": "_target_: builtins.dict\n",
    "prediction/noise": "_target_: builtins.dict\n",
    "sampler/heun": "_target_: builtins.dict\nnum_steps: 20\n",
    "sampler/dopri5": "_target_: builtins.dict\nrtol: 1.0e-5\n",
    "optimizer/adam": "_target_: builtins.dict\nlr: 1.0e-3\nbetas: [0.9, 0.999]\n",
    "trainer/cpu": "_target_: builtins.dict\nmax_steps: 100\ndevices: 1\nprecision: 32-true\n",
    "trainer/ddp": "_target_: builtins.dict\nmax_steps: 100\ndevices: auto\nprecision: null\n",
    "experiment/digits": """
# @package _global_
# A recipe.
defaults:
  - override /path: trig
trainer:
  max_steps: 7
""",
}


@pytest.fixture
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    for name, text in FILES.items():
        file = folder / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text.lstrip("\n"))
    return folder


@pytest.fixture
def empty_cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def verb(monkeypatch):
    """Stand in for all verbs: ``configs`` keeps what they were run with, ``action`` is called."""
    stand_in = ModuleType("verb")
    stand_in.configs = []
    stand_in.action = lambda config: None

    def run(config):
        stand_in.configs.append(config)
        stand_in.action(config)

    stand_in.run = run
    for name in ("train", "sample", "evaluate"):
        monkeypatch.setitem(sys.modules, f"flowgen.cli.{name}", stand_in)
    return stand_in


@pytest.fixture(autouse=True)
def _logging_as_before():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
