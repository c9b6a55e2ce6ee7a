import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.integrators import (
    EDMRho,
    Explicit,
    Grid,
    LogSNRUniform,
    Quadratic,
    Shifted,
    Sway,
    Uniform,
)

GRIDS = [
    Uniform(),
    Shifted(3.0),
    Shifted(0.4),
    Quadratic(True),
    Quadratic(False),
    EDMRho(),
    EDMRho(0.01, 10.0, 3.0),
    LogSNRUniform(),
    LogSNRUniform(0.2, 0.7),
    Sway(),
    Sway(2 / (math.pi - 2)),
]


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 1000])
def test_grids_rise_strictly_from_0_to_1(grid, num_steps):
    nodes = grid(num_steps)
    assert isinstance(grid, Grid)
    assert nodes.dtype == torch.float64
    assert nodes.shape == (num_steps + 1,)
    assert nodes[0] == 0
    assert nodes[-1] == 1
    assert bool((nodes.diff() > 0).all())
    assert torch.equal(nodes, grid(num_steps))


@pytest.mark.parametrize("grid", [*GRIDS, Explicit([0.0, 1.0])], ids=repr)
def test_number_of_steps_is_checked(grid):
    for bad in (0, -1):
        with pytest.raises(InputError, match=f"^num_steps must be >= 1, got {bad}$"):
            grid(bad)
    with pytest.raises(InputError, match="integer"):
        grid(True)


def test_uniform():
    assert Uniform()(4).tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_shift_is_applied_once_and_composes():
    u = Uniform()(8)
    assert float(Shifted(3.0)(2)[1]) == pytest.approx(0.25)  # more steps near the noise
    twice = Shifted(2.0)(8)
    twice = twice / (1.5 - 0.5 * twice)
    torch.testing.assert_close(twice, Shifted(3.0)(8), rtol=1e-14, atol=0)
    assert torch.equal(Shifted(1.0)(8), u)
    # the usual form in reversed time, s tau / (1 + (s - 1) tau)
    tau = 1 - u
    torch.testing.assert_close(Shifted(3.0)(8), 1 - 3 * tau / (1 + 2 * tau), rtol=0, atol=1e-15)


def test_quadratic_names_its_dense_end():
    assert Quadratic(dense_at_data=False)(2).tolist() == [0, 0.25, 1]
    assert Quadratic(dense_at_data=True)(2).tolist() == [0, 0.75, 1]
    steps = Quadratic(dense_at_data=True)(10).diff()
    assert float(steps[0]) > float(steps[-1])


def test_edm_nodes_are_its_noise_levels():
    nodes = EDMRho(0.002, 80.0, 7.0)(18)
    levels = 1 / nodes[1:-1] - 1
    roots = levels ** (1 / 7)
    steps = roots.diff()
    torch.testing.assert_close(steps, steps[:1].expand(16), rtol=1e-9, atol=0)
    assert float(levels[-1]) == pytest.approx(0.002, rel=1e-9)
    # the level before the first kept one is sigma_max, where EDM itself would start
    assert float((roots[0] - steps[0]) ** 7) == pytest.approx(80.0, rel=1e-9)


def test_log_snr_is_uniform_between_its_limits():
    nodes = LogSNRUniform(0.01, 0.9)(10)
    log_snr = torch.logit(nodes[1:-1])
    steps = log_snr.diff()
    torch.testing.assert_close(steps, steps[:1].expand(8), rtol=1e-12, atol=0)
    assert float(log_snr[0] - steps[0]) == pytest.approx(math.log(0.01 / 0.99))
    assert float(log_snr[-1] + steps[0]) == pytest.approx(math.log(0.9 / 0.1))


def test_sway():
    u = Uniform()(5)
    torch.testing.assert_close(Sway(-1.0)(5), 1 - torch.cos(math.pi / 2 * u), rtol=0, atol=1e-15)
    assert torch.equal(Sway(0.0)(5), u)
    steps = Sway(-0.5)(10).diff()
    assert float(steps[0]) < float(steps[-1])


def test_explicit_nodes_are_returned_untouched():
    nodes = [0.0, 0.1, 0.3000000000000001, 1.0]
    assert Explicit(nodes)(3).tolist() == nodes
    first = Explicit(nodes)(3)
    first[1] = 0.2
    assert Explicit(nodes)(3).tolist() == nodes
    with pytest.raises(InputError, match="num_steps must be 3 for 4 explicit nodes, got 4"):
        Explicit(nodes)(4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Shifted(0.0), "shift must be finite and > 0, got 0"),
        (lambda: Shifted(float("inf")), "shift"),
        (lambda: Shifted(float("nan")), "shift"),
        (lambda: EDMRho(0.0, 80.0), "0 < sigma_min < sigma_max, got 0.0 and 80.0"),
        (lambda: EDMRho(2.0, 1.0), "sigma_min"),
        (lambda: EDMRho(rho=0.0), "rho"),
        (lambda: LogSNRUniform(0.0, 0.9), "0 < t_min < t_max < 1"),
        (lambda: LogSNRUniform(0.5, 0.5), "t_min"),
        (lambda: LogSNRUniform(0.5, 1.0), "t_min"),
        (lambda: Sway(-1.01), "coefficient must lie in"),
        (lambda: Sway(1.76), "coefficient"),
        (lambda: Explicit([0.5]), "run from 0 to 1"),
        (lambda: Explicit([0.1, 1.0]), "run from 0 to 1"),
        (lambda: Explicit([0.0, 0.9]), "run from 0 to 1"),
        (lambda: Explicit([0.0, 0.5, 0.5, 1.0]), "rise strictly, got 0.5 before 0.5"),
        (lambda: Explicit([0.0, float("nan"), 1.0]), "rise strictly"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_more_steps_than_float64_can_tell_apart_are_refused():
    with pytest.raises(InputError, match="too many"):
        EDMRho(1e-300, 1.0, 0.01)(4)
