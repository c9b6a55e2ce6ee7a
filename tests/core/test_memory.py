"""Chunks that shrink give the same results, and give up only where one does not fit."""

import warnings

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = list(in_chunks(fits(3, error), 20, chunk))
    assert sum(parts, []) == list(range(20))
    assert max(map(len, parts)) <= min(3, chunk)


def test_the_shorter_length_is_told_once_and_stays():
    with pytest.warns(UserWarning, match="8 at once do not fit in memory: going on with 4") as told:
        parts = list(in_chunks(fits(4, MemoryError()), 16, 8))
    assert [len(part) for part in parts] == [4, 4, 4, 4]
    assert len(told) == 1


def test_one_that_does_not_fit_and_other_errors_are_raised():
    with pytest.raises(MemoryError), pytest.warns(UserWarning, match="going on with 1"):
        list(in_chunks(fits(0, MemoryError()), 4, 2))
    with pytest.raises(RuntimeError, match="shape"):
        list(in_chunks(fits(0, RuntimeError("shape mismatch")), 4, 2))


def test_samples_do_not_depend_on_where_memory_ran_out(monkeypatch):
    pipeline = built(image_config())
    expected = pipeline.sample(10, seed=3, chunk=10)
    forward = type(pipeline.field).forward

    def small(self, x, t, cond=None):
        if len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x, t, cond)

    monkeypatch.setattr(type(pipeline.field), "forward", small)
    with pytest.warns(UserWarning, match="10 at once do not fit"):
        got = pipeline.sample(10, seed=3, chunk=10)
    assert torch.equal(got, expected)
