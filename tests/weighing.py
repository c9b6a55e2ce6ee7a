"""Pairs weighed by several processes together; spawned processes import this."""

import os

import torch
import torch.distributed as dist

from flowgen.core import Pair
from flowgen.couplings import Weighted

ROWS = 12


def batches(rank, count):
    """Three global batches, dealt to processes; every second row has its data nearer."""
    for step in range(3):
        draw = torch.Generator().manual_seed(step)
        x_0, x_1 = (torch.randn(ROWS, 2, generator=draw, dtype=torch.float64) for _ in range(2))
        x_1 = torch.where(torch.arange(ROWS)[:, None] % 2 == 1, 0.1 * x_1, x_1)
        yield Pair(x_0[rank::count], x_1[rank::count])


def weighed(coupling, rank=0, count=1):
    """The weights of every batch and the scale that is left."""
    weights = [coupling(batch).weight.tolist() for batch in batches(rank, count)]
    return weights, float(coupling.state_dict()["value"])


def process(rank, count, port, queue):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=count)
    queue.put((rank, *weighed(Weighted(0.4), rank, count)))
    dist.destroy_process_group()
