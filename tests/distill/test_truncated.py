"""A second stage changes the map at much noise, and holds it where it was right already."""

import pytest
import torch

from flow_maps import ExactMap
from flowgen.core import InputError
from flowgen.distill import (
    AlongPath,
    Even,
    Middle,
    NextStep,
    PerStep,
    Ratio,
    Resting,
    Semigroup,
    Truncated,
    TwoTimes,
)
from flowgen.objectives import EDMLogNormal, Uniform
from flowgen.paths import AffinePath, Linear
from oracles import GaussianOracle

PATH = AffinePath(Linear())
MEAN = torch.tensor([2.0, -1.0])
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]])


@pytest.fixture
def oracle():
    return GaussianOracle(MEAN, COV)


def test_rows_beyond_rest_at_the_limit():
    inner = Ratio(EDMLogNormal(-1.1, 2.0))
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    plain = inner(500, 0.3, generator=draws[0])
    found = Truncated(inner, 0.4)(500, 0.3, generator=draws[1])
    beyond = plain.s > 0.4
    assert 0 < int(beyond.sum()) < 500
    assert torch.equal(found.s[~beyond], plain.s[~beyond])
    assert torch.equal(found.r[~beyond], plain.r[~beyond])
    assert (found.s[beyond] == 0.4).all()
    assert torch.equal(found.r[beyond], found.s[beyond])
    assert (found.t == 1).all()


def test_rows_that_rest_have_a_weight_of_their_own():
    s = torch.tensor([0.2, 0.5]).double()
    r = torch.tensor([0.3, 0.5]).double()
    t = torch.ones(2).double()
    weight = Resting(PerStep(), rest=0.1)(PATH, s, r, t)
    expected = torch.stack([PerStep()(PATH, s, r, t)[0], torch.tensor(0.1).double()])
    torch.testing.assert_close(weight, expected)


def test_targets_beyond_the_limit_are_those_of_the_start(oracle):
    """The student was exact and went wrong: rows whose middle is settled tell it, others do not."""
    pair = oracle.sample(256, generator=torch.Generator().manual_seed(0))
    triples = Truncated(NextStep(Uniform(), step=0.1), 0.5)
    objective = Semigroup(PATH, triples, AlongPath(), settled=0.5, ends=True)
    objective.begin(ExactMap(oracle, (0.0, 1.0)))
    student = ExactMap(oracle, (0.0, 1.0), error=0.4)
    loss = objective(student, pair, generator=torch.Generator().manual_seed(1))

    found = triples(256, generator=torch.Generator().manual_seed(1))
    s, r, t = (x.double() for x in (found.s, found.r, found.t))
    x, middle = PATH.sample(pair, s).x_t, PATH.sample(pair, r).x_t
    kept = r >= 0.5
    assert 0 < int(kept.sum()) < 256
    one = middle + (t - r)[:, None] * student.mean_velocity(middle, r, t)
    ends = torch.where(kept[:, None], oracle.flow(middle, r, t), one)
    mine = x + (t - s)[:, None] * student.mean_velocity(x, s, t)
    expected = (mine - ends).square().mean(dim=1)
    torch.testing.assert_close(loss.value, expected, rtol=1e-6, atol=1e-10)
    assert "start.error" in objective.state_dict()
    objective.after_step(student, 1)
    assert isinstance(objective.start, ExactMap)
    assert float(objective.start.error) == 0


def test_a_limit_that_is_no_binary_number_is_met(oracle):
    """Rows that rest are settled although float32 has rounded their time."""
    pair = oracle.sample(64, generator=torch.Generator().manual_seed(0))
    for until in (0.1, 0.3, 0.7, 0.9):
        objective = Semigroup(
            PATH, Truncated(NextStep(Uniform(), step=1e-3), until), AlongPath(), settled=until
        )
        objective.begin(ExactMap(oracle, (0.0, 1.0)))
        student = ExactMap(oracle, (0.0, 1.0), error=0.4)
        loss = objective(student, pair, generator=torch.Generator().manual_seed(1))
        resting = (loss.t - until).abs() < 1e-6
        assert int(resting.sum()) > 0
        x = PATH.sample(pair, loss.t).x_t
        bump = (0.4 * torch.sin(x + (2 * loss.t - 1)[:, None])).square().mean(dim=1)
        torch.testing.assert_close(loss.value[resting], bump[resting], rtol=1e-5, atol=1e-9)


def test_bad_settings_are_told():
    with pytest.raises(InputError, match="until"):
        Truncated(NextStep(), 1.0)
    with pytest.raises(InputError, match="rest"):
        Resting(Even(), -0.1)
    assert Truncated(Middle(TwoTimes())).edges is None
