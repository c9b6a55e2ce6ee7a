"""The page of orders lists every solver that can be chosen, with the order it claims."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from flowgen.cli import config_dir
from flowgen.integrators import ADAPTIVE_METHODS
from flowgen.pipeline import build

PAGE = Path(__file__).parents[2] / "docs" / "solvers.md"
NAMES = sorted(
    file.stem
    for file in (config_dir() / "sampler").glob("*.yaml")
    if file.stem not in ("stored", "expressway")  # no methods of their own
    and file.stem not in ("map", "segment", "renoise")  # jumps of a flow map, which have no order
)


def stepper(name):
    """The stepper of a config, without the groups it is composed of."""
    node = OmegaConf.load(config_dir() / "sampler" / f"{name}.yaml")
    return build(OmegaConf.to_container(node.stepper))


@pytest.mark.parametrize("name", NAMES)
def test_every_solver_is_on_the_page(name):
    text = PAGE.read_text()
    if name in ADAPTIVE_METHODS:
        assert stepper(name).order == ADAPTIVE_METHODS[name]
        return
    row = re.search(rf"^\| `{name}` \| (\d+) \| (\S+) \|", text, flags=re.MULTILINE)
    assert row, f"run python benchmarks/solver_orders.py --write docs/solvers.md for {name}"
    assert int(row[1]) == stepper(name).order
    assert float(row[2]) == pytest.approx(stepper(name).order, abs=0.15)


def test_nothing_else_is_on_the_page():
    listed = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert set(listed) == set(NAMES) - set(ADAPTIVE_METHODS)
    assert len(listed) == len(set(listed))
