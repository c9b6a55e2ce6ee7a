"""What was trained is good: small models against the floor of the data, few steps against many."""

import pytest

import flowgen
from flowgen.cli import main
from flowgen.data import EightGaussians, Moons
from flowgen.integrators import Euler, Sampler, Uniform
from flowgen.metrics import exact_w2
from unchecked import unchecked

POINTS = 1000


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(*words):
    with unchecked():
        assert main(["train", *words, "callbacks=quiet", "run_dir=run", "trainer=cpu"]) == 0
    return flowgen.load("run")


def distance(samples, data, generator):
    return exact_w2(samples, data.sample(POINTS, generator=generator)).w2


@pytest.mark.slow
def test_moons_come_near_their_sampling_floor(place, generator):
    data = Moons()
    model = train("experiment=moons", "trainer.max_steps=1200")
    floor = distance(data.sample(POINTS, generator=generator), data, generator)
    # An untrained model, still Gaussian, is at eight times the floor.
    assert distance(model.sample(POINTS), data, generator) < 2 * floor


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["exact_assignment", "independent"])
def test_optimal_transport_needs_few_steps_and_independent_pairs_many(coupling, place, generator):
    """Four Euler steps lose almost nothing with OT pairs, and much without (Tong et al. 2023)."""
    data = EightGaussians()
    model = train("experiment=eight_gaussians_ot", f"coupling={coupling}", "trainer.max_steps=1500")
    few, many = (
        distance(model.with_sampler(Sampler(Euler(), Uniform(), n)).sample(POINTS), data, generator)
        for n in (4, 100)
    )
    if coupling == "independent":
        assert few > 1.5 * many
    else:
        assert few < 1.2 * many
