"""The exact maps that students of the plane are compared to, and their table."""

import runpy
from pathlib import Path

import pytest
import torch

from flowgen.data import Mixture
from oracles import GaussianOracle, MixtureOracle

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "distillation_2d.py"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))
        return runpy.run_path(str(SCRIPT))


@pytest.fixture
def x(generator):
    return torch.randn(50, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("s", "t"), [(0.0, 1.0), (0.2, 0.9), (0.7, 0.1)])
def test_the_map_of_an_ellipse_is_that_of_the_oracle(script, x, s, t):
    ellipse = script["Ellipse"](**script["ELLIPSE"])
    root = ellipse.axes * ellipse.stds
    truth = GaussianOracle(ellipse.mean, root @ root.mT)
    times = [torch.full((50,), at, dtype=torch.float64) for at in (s, t)]
    torch.testing.assert_close(ellipse.flow(x, s, t), truth.flow(x, *times), rtol=1e-12, atol=1e-12)


def test_samples_of_an_ellipse_have_its_moments(script, generator):
    ellipse = script["Ellipse"](**script["ELLIPSE"])
    points = ellipse.sample(100_000, generator=generator).double()
    root = ellipse.axes * ellipse.stds
    torch.testing.assert_close(points.mean(0), ellipse.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(points.T.cov(), root @ root.mT, rtol=0.02, atol=0.02)


def test_the_velocity_of_the_mixture_is_that_of_the_oracle(script, x, generator):
    names = ("weights", "means", "stds")
    truth = MixtureOracle(*(torch.tensor(script["MIXTURE"][n], dtype=torch.float64) for n in names))
    t = torch.rand(50, generator=generator, dtype=torch.float64)
    found = script["mixture_velocity"](Mixture(**script["MIXTURE"]), 2 * x, t)
    torch.testing.assert_close(found, truth(2 * x, t), rtol=1e-10, atol=1e-10)


def test_the_map_of_a_mixture_of_one_is_closed_and_that_of_three_has_converged(script, x):
    one = script["mixture_flow"](Mixture([[1.0, -2.0]], 0.3), x)
    expected = torch.tensor([1.0, -2.0]) + 0.3 * x
    torch.testing.assert_close(one, expected, rtol=0, atol=1e-8)
    mixture = Mixture(**script["MIXTURE"])
    twice = script["mixture_flow"](mixture, x, 2 * script["RK4_STEPS"])
    torch.testing.assert_close(script["mixture_flow"](mixture, x), twice, rtol=0, atol=1e-6)


def test_the_exact_table_leaves_out_what_was_not_measured(script):
    rows = {
        "teacher, Euler": {"1": 1.5, "2": 0.7},
        "teacher, best": {"50": 0.05},
        "one_step": {"1": 0.25},
    }
    said = script["exact_table"]({"tasks": {"ellipse": rows}})
    assert "| teacher, Euler | 1.500 | 0.700 |  |  |" in said
    assert "| `one_step` | 0.250 |  |  |  |" in said
    assert "50 evaluations: 0.050 (ellipse)" in said
