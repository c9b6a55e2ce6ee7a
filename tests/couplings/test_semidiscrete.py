"""Semidiscrete transport against the quantile map in one dimension and counting by hand."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.couplings import SemidiscreteSolver, cell_of, chi2_of, optimal_permutation

POINTS = torch.tensor([-2.0, -0.5, 0.1, 1.0, 3.0], dtype=torch.float64)[:, None]
MASSES = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64)


def normal(generator, *shape):
    return lambda n: torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def test_the_potential_in_one_dimension_is_that_of_the_quantiles(generator):
    """The cell of the j-th point ends at the quantile q_j: g_{j+1} - g_j = -q_j (y_{j+1} - y_j)."""
    steps = torch.diff(POINTS[:, 0]) * torch.special.ndtri(MASSES.cumsum(0)[:-1])
    exact = torch.cat([torch.zeros(1, dtype=torch.float64), -steps.cumsum(0)])
    solver = SemidiscreteSolver(batch=512, max_steps=20_000, threshold=2e-4)
    fit = solver(POINTS, normal(generator, 1), weights=MASSES)
    assert torch.allclose(fit.potential, exact - exact.mean(), atol=1e-2)
    cells = cell_of(normal(generator, 1)(200_000), POINTS, fit.potential)
    found = torch.bincount(cells, minlength=5) / 200_000
    assert torch.allclose(found.double(), MASSES, atol=6e-3)


def test_the_partner_is_the_best_of_all_points(generator):
    x, y = normal(generator, 2, 3)(7), normal(generator, 2, 3)(40)
    g = normal(generator)(40)
    scores = torch.einsum("bij,nij->bn", x, y) + g
    assert torch.equal(cell_of(x, y, g), scores.argmax(dim=1))


def test_blocks_of_points_change_nothing(generator, monkeypatch):
    x, y, g = normal(generator, 4)(9), normal(generator, 4)(50), normal(generator)(50)
    whole = cell_of(x, y, g)
    monkeypatch.setattr("flowgen.couplings.semidiscrete._COLUMNS", 7)
    assert torch.equal(cell_of(x, y, g), whole)


def test_cells_of_a_data_set_have_equal_masses_and_cost_less_than_a_batch_can(generator):
    y = normal(generator, 6)(300) * torch.tensor([3.0, 1, 1, 1, 0.3, 0.3]).double() + 1
    fit = SemidiscreteSolver(batch=1024, threshold=0.05)(y, normal(generator, 6))
    assert fit.converged
    assert fit.chi2 + 2 * fit.error < 0.05
    x = normal(generator, 6)(30_000)
    cells = cell_of(x, y, fit.potential)
    fresh, _ = chi2_of(torch.bincount(cells, minlength=300), torch.full((300,), 1 / 300))
    assert fresh < 0.05
    batches = []
    for rows in x[: 100 * 64].split(64):
        batch = y[torch.randint(300, (64,), generator=generator)]
        batches.append((rows[optimal_permutation(rows, batch)] - batch).square().mean())
    assert (x - y[cells]).square().mean() < 0.9 * torch.stack(batches).mean()


def test_the_chi_square_is_unbiased_and_its_error_is_right(generator):
    """The plug-in is too large by n / M = 0.5 here."""
    masses = torch.rand(500, generator=generator, dtype=torch.float64) + 0.5
    masses /= masses.sum()
    b = torch.full((500,), 1 / 500, dtype=torch.float64)
    true = float((masses.square() / b).sum() - 1)
    found = []
    for _ in range(400):
        drawn = torch.multinomial(masses, 1000, replacement=True, generator=generator)
        found.append(chi2_of(torch.bincount(drawn, minlength=500), b))
    values, errors = torch.tensor(found, dtype=torch.float64).T
    assert values.mean() == pytest.approx(true, abs=4 * float(values.std()) / 20)
    assert errors.mean() == pytest.approx(float(values.std()), rel=0.2)


def test_a_fit_that_is_cut_short_says_so(generator):
    told = []
    y = normal(generator, 2)(50)
    solver = SemidiscreteSolver(batch=16, max_steps=7, threshold=0.01)
    fit = solver(y, normal(generator, 2), told=lambda *each: told.append(each))
    assert not fit.converged
    assert fit.steps == 7
    # The gaussian start is better than what seven steps of 16 samples made of it.
    assert [step for step, _, _ in told] == [7]
    assert 0.01 < fit.chi2 < told[0][1]
    assert float(fit.potential.mean()) == pytest.approx(0, abs=1e-12)


def test_a_threshold_that_a_single_sample_could_tell_is_told_by_two(generator):
    """8 sqrt(2 n) = 25.3: of so few samples chi2 is n - 1 in one cell, and -1 in two."""
    fit = SemidiscreteSolver(threshold=100.0)(POINTS, normal(generator, 1))
    assert fit.converged
    assert fit.steps == 0
    assert fit.chi2 in (-1.0, 4.0)


@pytest.mark.parametrize(
    "changes",
    [{"batch": 1}, {"max_steps": 0}, {"threshold": 0.0}, {"threshold": float("inf")}],
)
def test_numbers_out_of_range_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        SemidiscreteSolver(**changes)


@pytest.mark.parametrize("points", [torch.ones(1, 2), torch.tensor([[1.0], [float("nan")]])])
def test_points_that_cannot_be_paired_are_refused(points, generator):
    with pytest.raises(InputError, match="points must be finite and at least 2"):
        SemidiscreteSolver()(points, lambda n: torch.randn(n, 2))
