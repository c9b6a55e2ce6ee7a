"""Runs of two processes, from a fresh one and with a port that nobody else is given."""

import os
import random
import socket
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def free_port() -> int:
    """Return a port where nobody listens, below those that the system hands out by itself."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port


def in_fresh_process(function, *args, **kwargs):
    """Return ``function(...)`` of a new process, where ``ddp_fork`` is safe.

    A fork copies no thread, but every lock that one of them holds: a process with the threads of
    loggers and pools waits for ever in its copy.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_call, free_port(), function, args, kwargs).result()


def _call(port, function, args, kwargs):
    import torch

    from flowgen.core import debug_checks

    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    with debug_checks():
        return function(*args, **kwargs)
