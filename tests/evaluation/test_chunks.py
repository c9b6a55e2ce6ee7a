"""Where memory does not suffice the chunk halves, and the samples are the same."""

import logging

import pytest
import torch

from flowgen.core import InputError
from flowgen.data import EightGaussians, PointData
from flowgen.evaluation import Chunks, Setting
from flowgen.integrators import Sampler
from small import built, vector_config


def limited(limit, error):
    def work(part):
        if len(part) > limit:
            raise error
        return list(part)

    return work


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_chunk_halves_until_it_fits_and_stays(error, caplog):
    chunks = Chunks(16)
    with caplog.at_level(logging.WARNING):
        parts = list(chunks.over(range(3, 30), limited(5, error)))
    assert [n for part in parts for n in part] == list(range(3, 30))
    assert chunks.size == 4
    assert [record.getMessage()[-8:] for record in caplog.records] == ["chunk=8", "chunk=4"] or len(
        caplog.records
    ) == 2
    list(chunks.over(range(9), limited(5, error)))
    assert len(caplog.records) == 2


def test_a_single_item_that_does_not_fit_is_told():
    with pytest.raises(InputError, match="single sample"):
        list(Chunks(4).over(range(4), limited(0, MemoryError())))


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"):
        list(Chunks(4).over(range(4), limited(0, RuntimeError("shape"))))
    with pytest.raises(InputError, match="chunk"):
        Chunks(0)


def test_samples_are_the_same_after_running_out_of_memory(monkeypatch):
    pipeline = built(vector_config())
    data = PointData(EightGaussians(), num_train=20, num_test=20)
    whole = torch.cat([d.samples for d in Setting(pipeline, data, 20, chunk=20).draw()])
    sample = Sampler.sample

    def poor(self, field, x_0, *args, **settings):
        if len(x_0) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(self, field, x_0, *args, **settings)

    monkeypatch.setattr(Sampler, "sample", poor)
    parts = list(Setting(pipeline, data, 20, chunk=20).draw())
    assert [list(d.numbers) for d in parts] == [list(range(i, i + 5)) for i in (0, 5, 10, 15)]
    assert torch.allclose(torch.cat([d.samples for d in parts]), whole, atol=1e-5)
