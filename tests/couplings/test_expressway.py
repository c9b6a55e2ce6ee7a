"""The expressway: right shares, the class asked for, and the rest of the way alone."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.couplings import Expressway, SemidiscreteSolver, cell_of, save_expressway
from flowgen.integrators import (
    Euler,
    ExactDivergence,
    Heun,
    Midpoint,
    Sampler,
    Start,
    Uniform,
    log_density_change,
)


@pytest.fixture
def fitted(tmp_path, generator):
    target = torch.randn(40, 2, generator=generator) * torch.tensor([2.0, 0.5]) + 1
    fit = SemidiscreteSolver(threshold=0.02)(
        target, lambda n: torch.randn(n, 2, generator=generator)
    )
    file = tmp_path / "way.safetensors"
    save_expressway(file, 0.6, target, fit.potential, None)
    return file, target, fit.potential


def test_noise_starts_at_every_target_equally_often(fitted, generator):
    file, target, potential = fitted
    start = Expressway(file)
    assert isinstance(start, Start)
    assert start.time == 0.6
    x_0 = torch.randn(20_000, 2, generator=generator)
    x = start(x_0)
    assert torch.equal(x, target[cell_of(x_0, target, potential)])
    counts = (x[:, None] == target).all(-1).sum(dim=0).double()
    # Threshold of the fit, and five deviations of the count.
    assert float((counts / 500 - 1).square().mean()) < 0.02 + 0.002 + 5 * 0.0005


def test_it_is_the_nearest_way_that_has_these_shares(fitted, generator):
    """Any exchange of targets between two noises costs more: cyclic monotony."""
    start = Expressway(fitted[0])
    x_0 = torch.randn(300, 2, generator=generator)
    x = start(x_0)
    inner = x_0 @ x.mT
    exchanged = inner + inner.mT - inner.diagonal()[:, None] - inner.diagonal()
    assert float(exchanged.max()) < 1e-4


def test_only_the_rest_of_the_way_is_integrated(fitted, generator):
    """Along v = x a state grows by e^(1 - 0.6) from its start, and not by e."""
    file, _, _ = fitted
    start = Expressway(file)
    sampler = Sampler(Midpoint(), Uniform(), 40, start)

    def field(x, t, cond=None):
        return x

    x_0 = torch.randn(50, 2, generator=generator)
    nodes = sampler.grid_for(field)
    assert float(nodes[0]) == 0.6
    assert float(nodes[-1]) == 1
    assert len(nodes) == 41
    x_1 = sampler.sample(field, x_0)
    assert torch.allclose(x_1, start(x_0) * torch.tensor(0.4).exp(), rtol=1e-4)
    assert sampler.with_num_steps(2).start is start


def test_rows_start_in_the_class_that_is_asked_for(tmp_path, generator):
    target = torch.randn(60, 3, generator=generator)
    label = torch.arange(60) % 3
    file = tmp_path / "way.safetensors"
    save_expressway(file, 0.5, target, torch.zeros(60), label)
    start = Expressway(file)
    x_0 = torch.randn(90, 3, generator=generator)
    asked = torch.randint(3, (90,), generator=generator)
    x = start(x_0, {"label": asked})
    for i in range(90):
        members = target[label == asked[i]]
        assert torch.equal(x[i], members[(members @ x_0[i]).argmax()])
    with pytest.raises(InputError, match="class 7 has no sample"):
        start(x_0[:1], {"label": torch.tensor([7])})
    with pytest.raises(InputError, match="fit it for this checkpoint"):
        start(x_0)


def test_what_does_not_fit_is_refused(tmp_path, fitted):
    file, target, potential = fitted
    start = Expressway(file)
    with pytest.raises(InputError, match="fit it for this checkpoint"):
        start(torch.zeros(2, 3))
    with pytest.raises(InputError, match="with labels, or without"):
        start(torch.zeros(2, 2), {"label": torch.zeros(2).long()})
    sampler = Sampler(Heun(), Uniform(), 4, start)
    with pytest.raises(InputError, match="no way back"):
        sampler.encode(lambda x, t, cond=None: x, torch.zeros(2, 2))
    with pytest.raises(InputError, match="without a start"):
        log_density_change(
            lambda x, t, cond=None: x,
            torch.zeros(2, 2),
            ExactDivergence(),
            sampler=Sampler(Euler(), Uniform(), 4, start),
        )
    with pytest.raises(InputError, match="no file at"):
        Expressway(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="damaged"):
        Expressway(tmp_path / "bad.safetensors")
    for time in (0.0, 1.0):
        with pytest.raises(InputError, match=r"in \(0, 1\)"):
            save_expressway(file, time, target, potential, None)
