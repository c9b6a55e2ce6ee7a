"""Pairs made ahead of the model, for several batches at once, and over all processes."""

import multiprocessing
import time

import pytest
import torch
from lightning.pytorch import Trainer

from flowgen.core import InputError, Pair
from flowgen.couplings import ExactAssignment, Independent
from flowgen.data import EightGaussians, PointData, stream
from flowgen.training import PairLoader, pairing
from pairing_runs import learnt, weights
from runs import flow
from small import vector_config
from two_processes import in_fresh_process

DATA = PointData(EightGaussians(), num_train=100, num_test=10)


class Counting(Independent):
    """Shifts the noise by the number of groups so far, which is its state."""

    def __init__(self):
        self.count = 0

    def __call__(self, pair, *, generator=None):
        self.count += 1
        return Pair(torch.full_like(pair.x_0, self.count), pair.x_1)

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def pairs(coupling, count, start=0, **settings):
    module = flow(vector_config(), coupling=coupling)
    found = iter(PairLoader(module, stream(DATA.train, batch_size=8, start=start), **settings))
    return [next(found) for _ in range(count)]


@pytest.fixture(params=["process", "thread"])
def _beside(request, monkeypatch):
    """Pairs are made ahead in a process, and in a thread."""
    monkeypatch.setattr(pairing, "can_fork", lambda: request.param == "process")


@pytest.mark.usefixtures("_beside")
@pytest.mark.parametrize("batches", [1, 3])
def test_being_ahead_changes_nothing(batches):
    one = pairs(ExactAssignment(), 7, batches=batches, ahead=0)
    for ahead in (1, 4):
        other = pairs(ExactAssignment(), 7, batches=batches, ahead=ahead)
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.pair.x_0, b.pair.x_0)
            assert torch.equal(a.pair.x_1, b.pair.x_1)
            assert a.waited
            assert not b.waited


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_run_goes_on_inside_a_group_as_if_it_had_not_stopped(ahead):
    whole = pairs(Counting(), 10, batches=3, ahead=ahead)
    assert [int(each.pair.x_0[0, 0]) for each in whole] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    for stop in range(1, 9):
        coupling = Counting()
        coupling.load_state_dict(whole[stop - 1].state)
        rest = pairs(coupling, 10 - stop, start=stop, batches=3, ahead=ahead)
        for a, b in zip(whole[stop:], rest, strict=True):
            assert torch.equal(a.pair.x_0, b.pair.x_0)
            assert torch.equal(a.pair.x_1, b.pair.x_1)
            assert a.state == b.state


def test_more_batches_together_are_nearer_and_keep_the_data():
    def cost(found):
        return torch.cat([p.pair.x_1 - p.pair.x_0 for p in found]).square().mean()

    apart = pairs(ExactAssignment(), 8, batches=1)
    together = pairs(ExactAssignment(), 8, batches=8)
    assert cost(together) < 0.8 * cost(apart)
    for a, b in zip(apart, together, strict=True):
        assert torch.equal(a.pair.x_1, b.pair.x_1)


@pytest.mark.usefixtures("_beside")
def test_the_next_pairing_is_made_while_the_model_takes_its_step():
    made = multiprocessing.get_context("fork").Value("i", 0)

    class Counted(Independent):
        def __call__(self, pair, *, generator=None):
            made.value += 1
            return pair

    def made_without_being_asked(ahead, seconds):
        made.value = 0
        module = flow(vector_config(), coupling=Counted())
        found = iter(PairLoader(module, stream(DATA.train, batch_size=8), ahead=ahead))
        next(found)
        until = time.monotonic() + seconds  # the step
        while made.value < 2 and time.monotonic() < until:
            time.sleep(0.01)
        return made.value - 1

    assert made_without_being_asked(0, 0.2) == 0
    assert made_without_being_asked(1, 60.0) >= 1


@pytest.mark.usefixtures("_beside")
def test_what_a_coupling_raises_ahead_reaches_the_step():
    class Broken(Independent):
        def __call__(self, pair, *, generator=None):
            raise InputError("no pairs today")

    with pytest.raises(InputError, match="no pairs today"):
        pairs(Broken(), 1, ahead=2)


@pytest.mark.parametrize(("setting", "value"), [("batches", 0), ("ahead", -1)])
def test_numbers_out_of_range_are_refused(setting, value):
    with pytest.raises(InputError, match=f"pairing.{setting} must be"):
        pairs(Independent(), 1, **{setting: value})


def test_training_logs_the_time_of_pairing_and_its_share(tmp_path):
    from flowgen.training.loggers import MetricsFile

    module = flow(vector_config(), coupling=ExactAssignment())
    Trainer(
        accelerator="cpu",
        max_steps=4,
        max_epochs=-1,
        logger=MetricsFile(tmp_path),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=4,
        default_root_dir=tmp_path,
    ).fit(module, PairLoader(module, stream(DATA.train, batch_size=8)))
    header, row = (tmp_path / "metrics.csv").read_text().splitlines()
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(found["ms/coupling"]) > 0
    share = float(found["ms/coupling"]) / float(found["ms/step"])
    assert float(found["coupling/share"]) == pytest.approx(share, rel=1e-3)


def test_two_processes_pair_and_learn_as_one(tmp_path):
    """The assignment is over the rows of both; with other pairs the weights would differ."""
    alone = learnt(tmp_path / "alone", 8)
    both = {"strategy": "ddp_fork", "devices": 2}
    together = in_fresh_process(learnt, tmp_path / "both", 4, all_processes=True, **both)
    apart = in_fresh_process(learnt, tmp_path / "apart", 4, **both)
    assert torch.allclose(alone, together, atol=1e-6)
    assert not torch.allclose(alone, apart, atol=1e-4)
    assert not torch.allclose(alone, weights(flow(vector_config())), atol=1e-3)
