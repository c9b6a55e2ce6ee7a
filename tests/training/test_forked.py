"""An iterator in a process of its own: same items, errors, and no process left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from flowgen.core import InputError, Pair, TrainingFailedError
from flowgen.training.forked import can_fork, forked

TENSORS = [
    torch.arange(6).reshape(2, 3)[:, ::2],
    torch.tensor([True, False]),
    torch.tensor(2.5, dtype=torch.float64),
    torch.randn(2, 2).bfloat16(),
    torch.empty(0, 3),
]


def test_items_come_in_order_and_as_they_are():
    def make():
        for number, tensor in enumerate(TENSORS):
            yield number, {"t": [tensor]}, Pair(torch.ones(2, 1), torch.zeros(2, 1))

    found = list(forked(make, 2))
    assert [number for number, _, _ in found] == list(range(len(TENSORS)))
    for expected, (_, content, pair) in zip(TENSORS, found, strict=True):
        assert content["t"][0].dtype == expected.dtype
        assert torch.equal(content["t"][0], expected)
        assert torch.equal(pair.x_0, torch.ones(2, 1))


def test_what_arrives_may_be_written_to():
    [found] = list(forked(lambda: iter([torch.zeros(3)]), 1))
    found += 1
    assert torch.equal(found, torch.ones(3))


def test_it_works_ahead_as_far_as_it_may_and_elsewhere():
    counted = multiprocessing.get_context("fork").Value("i", 0)

    def make():
        for _ in range(10):
            counted.value += 1
            yield os.getpid()

    items = forked(make, 2)
    assert next(items) != os.getpid()
    deadline = time.monotonic() + 60
    while counted.value < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    # One is taken, two wait, one is made and has no place yet.
    assert counted.value == 4
    items.close()


class Unsendable(Exception):  # noqa: N818 - a stand-in for whatever a library raises
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (InputError("no pairs today"), InputError, "^no pairs today$"),
        (Unsendable("this", "that"), RuntimeError, "this and that"),
    ],
)
def test_errors_arrive_after_the_items_before_them(error, kind, told):
    def make():
        yield 1
        raise error

    items = forked(make, 1)
    assert next(items) == 1
    with pytest.raises(kind, match=told):
        next(items)


def test_a_process_that_dies_is_told_of():
    def make():
        yield 1
        os.kill(os.getpid(), signal.SIGKILL)

    items = forked(make, 1)
    assert next(items) == 1
    with pytest.raises(TrainingFailedError, match=r"exit code -9.*pairing.ahead=0"):
        next(items)


def test_nobody_is_left_when_the_iteration_ends_early():
    def make():
        while True:
            yield 1

    items = forked(make, 1)
    next(items)
    [worker] = multiprocessing.active_children()
    items.close()
    assert not worker.is_alive()


ENDLESS = """
import os, sys, time
import flowgen.training.forked as module
module._PARENT_CHECKED = 0.1
def make():
    while True:
        yield os.getpid()
items = module.forked(make, 1)
print(next(items), flush=True)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("killed", [False, True])
def test_nobody_is_left_when_the_program_ends(killed):
    script = ENDLESS + ("time.sleep(60)" if killed else "")
    program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    worker = int(program.stdout.readline())
    if killed:
        program.kill()
    assert program.wait(timeout=200) == (-9 if killed else 0)
    deadline = time.monotonic() + 60
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


def test_signals_are_left_to_the_program():
    def make():
        yield os.getpid()
        time.sleep(0.3)
        yield 2

    items = forked(make, 1)
    worker = next(items)
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker, signum)
    assert next(items) == 2


def test_processes_of_a_pool_do_not_fork():
    assert can_fork()
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        assert not pool.apply(can_fork)
