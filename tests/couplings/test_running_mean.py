"""The scale of pair weights over several processes."""

import pytest

import weighing
from flowgen.couplings import Weighted
from two_processes import free_port, server


def test_two_processes_scale_as_one_with_the_whole_batch():
    context, port = server(), free_port()
    queue = context.Queue()
    workers = [
        context.Process(target=weighing.process, args=(rank, 2, port, queue)) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    found = sorted(queue.get(timeout=200) for _ in workers)
    for worker in workers:
        worker.join(timeout=200)
    expected, scale = weighing.weighed(Weighted(0.4))
    for rank, weights, theirs in found:
        assert theirs == pytest.approx(scale, abs=1e-12)
        for mine, whole in zip(weights, expected, strict=True):
            assert mine == pytest.approx(whole[rank::2], rel=1e-10)
    alone = [weighing.weighed(Weighted(0.4), rank, 2)[1] for rank in range(2)]
    assert abs(alone[0] - alone[1]) > 0.1, "the case would pass without an exchange"
