"""Chunks that shrink give the same results, and give up only where one does not fit."""

import weakref

import pytest
import torch

from flowgen.core import in_chunks, is_out_of_memory
from small import built, image_config


def fits(most, error):
    def work(numbers):
        if len(numbers) > most:
            raise error
        return list(numbers)

    return work


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
def test_every_number_is_worked_on_once_in_order(error, chunk):
    assert is_out_of_memory(error)
    parts = list(in_chunks(fits(3, error), 20, chunk))
    assert sum(parts, []) == list(range(20))
    assert max(map(len, parts)) <= min(3, chunk)


def test_the_shorter_length_is_told_once_and_stays(caplog):
    parts = list(in_chunks(fits(4, MemoryError()), 16, 8))
    assert [len(part) for part in parts] == [4, 4, 4, 4]
    assert caplog.messages == ["8 at once do not fit in memory, going on with chunks of 4"]


def test_work_without_a_result_is_done_once():
    done = []
    assert list(in_chunks(done.append, 4, 2)) == [None, None]
    assert list(map(list, done)) == [[0, 1], [2, 3]]


def test_one_that_does_not_fit_and_other_errors_are_raised():
    with pytest.raises(MemoryError):
        list(in_chunks(fits(0, MemoryError()), 4, 2))
    with pytest.raises(RuntimeError, match="shape"):
        list(in_chunks(fits(0, RuntimeError("shape mismatch")), 4, 2))


def test_what_a_failed_attempt_held_is_free_before_the_next():
    held = []

    def work(numbers):
        assert not [one for one in held if one() is not None]
        tensor = torch.zeros(len(numbers))
        held.append(weakref.ref(tensor))
        if len(numbers) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return len(numbers)

    assert list(in_chunks(work, 2, 4)) == [1, 1]


def test_samples_do_not_depend_on_where_memory_ran_out(monkeypatch, caplog):
    pipeline = built(image_config())
    expected = pipeline.sample(10, seed=3, chunk=10)
    forward = type(pipeline.field).forward

    def small(self, x, t, cond=None):
        if len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x, t, cond)

    monkeypatch.setattr(type(pipeline.field), "forward", small)
    got = pipeline.sample(10, seed=3, chunk=10)
    assert torch.equal(got, expected)
    assert "10 at once do not fit" in caplog.text
