"""The stopwatch of a step, with a clock of its own in place of time."""

import time

import pytest
import torch

from flowgen.training.phases import PENDING, CudaClock, Phases, WallClock, clock_for


class Ticks:
    """A clock that goes on by one second whenever it is looked at, and counts what is read."""

    def __init__(self):
        self.now, self.read = 0, 0

    def mark(self):
        self.now += 1
        return self.now

    def seconds(self, start, end):
        self.read += 1
        return float(end - start)


def step(phases, parts, samples=1):
    phases.begin()
    with phases.phase("coupling"):
        pass
    for _ in range(parts):
        with phases.phase("forward"):
            pass
    phases.end(samples)


def test_parts_add_up_within_a_step_and_are_averaged_over_steps():
    phases = Phases(Ticks())
    for parts in (1, 3):
        step(phases, parts)
    found = phases.read()
    assert found["ms/coupling"] == 1000.0
    assert found["ms/forward"] == 2000.0
    assert phases.read() == {}
    step(phases, 1)
    assert phases.read()["ms/forward"] == 1000.0


def test_nothing_is_read_before_the_log_unless_very_much_waits():
    """Reading an event makes the host wait for the device."""
    clock = Ticks()
    phases = Phases(clock)
    for _ in range(PENDING):
        step(phases, 1)
    assert clock.read == 0
    step(phases, 1)
    assert clock.read == 2 * (PENDING + 1)
    assert phases.read()["ms/forward"] == pytest.approx(1000.0)


def test_waiting_counts_as_data_and_pictures_do_not(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    phases = Phases(Ticks())
    phases.rest()
    for _ in range(2):
        now[0] += 0.25  # the loader
        phases.begin()
        now[0] += 1.0
        phases.end(10)
        now[0] += 50.0  # a picture, then the callbacks are done
        phases.rest()
    found = phases.read()
    assert found["ms/data"] == 250.0
    assert found["samples_per_second"] == 20 / 2.5


def test_the_clock_is_that_of_the_device():
    assert isinstance(clock_for(torch.device("cpu")), WallClock)
    assert isinstance(clock_for(torch.device("cuda")), CudaClock)
    clock = WallClock()
    start = clock.mark()
    assert clock.seconds(start, clock.mark()) >= 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_events_see_the_work_and_not_the_call():
    device = torch.device("cuda")
    phases = Phases(clock_for(device))
    x = torch.randn(4096, 4096, device=device)
    x @ x
    torch.cuda.synchronize()
    phases.begin()
    start = time.perf_counter()
    with phases.phase("forward"):
        for _ in range(50):
            x = (x @ x).clamp(-1, 1)
    called = time.perf_counter() - start
    phases.end(1)
    assert phases.read()["ms/forward"] > 1e3 * called
