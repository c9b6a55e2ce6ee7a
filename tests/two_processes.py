"""Fresh processes without the wait for their imports, and ports that nobody else is given.

A server that has imported what a run needs, but has no thread, no type checks and no state of a
test, forks each process: the imports take several seconds, the fork a few milliseconds.
"""

import os
import random
import socket
import sys
import traceback
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from functools import cache
from multiprocessing import get_context
from pathlib import Path

PRELOADED = ["torch._dynamo", "lightning.pytorch", "flowgen.cli.assemble", "flowgen.cli.train"]


@cache
def server():
    """Return the context whose processes come from the server."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


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
    with ProcessPoolExecutor(1, mp_context=server()) as pool:
        return pool.submit(_call, free_port(), function, args, kwargs).result()


def in_two_processes(function, *args, seconds=250):
    """Return ``function(...)`` of each of two new processes, connected as ``torchrun`` would."""
    port = free_port()
    pools = [ProcessPoolExecutor(1, mp_context=server()) for _ in range(2)]
    try:
        futures = [
            pool.submit(_call_as, rank, port, function, args) for rank, pool in enumerate(pools)
        ]
        done, waiting = wait(futures, timeout=seconds, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()  # one that fails leaves the other waiting for it
        assert not waiting, f"not done after {seconds} s"
        return [future.result() for future in futures]
    finally:
        for pool in pools:
            for process in list((pool._processes or {}).values()):
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)


def _call_as(rank, port, function, args):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
    }
    return _call(port, function, args, {})


def _call(port, function, args, kwargs):
    import torch

    from flowgen.core import debug_checks

    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    with debug_checks():
        return function(*args, **kwargs)


def run_program(text):
    """Run a Python program in a fresh process; an error of it is raised here with its traceback."""
    in_fresh_process(_run, text)


def _run(text):
    from flowgen.core import debug_checks

    try:
        with debug_checks(False):
            exec(compile(text, "program", "exec"), {"__name__": "__main__"})
    except Exception:  # noqa: BLE001 - it is raised again, as text
        # Not every error of torch can be pickled.
        raise AssertionError(traceback.format_exc()) from None


class CommandLine:
    """``flowgen ...`` in a process and a session of its own, used as :class:`subprocess.Popen` is.

    Args:
        words: What stands after ``flowgen``.
        cwd: The working directory, where modules are found as well.
    """

    def __init__(self, words, cwd):
        self._out = Path(cwd) / f"out_{random.SystemRandom().getrandbits(64):x}.txt"
        self._process = server().Process(target=_command_line, args=(words, str(cwd), self._out))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def kill(self):
        self._process.kill()

    def communicate(self, timeout=None):
        self._process.join(timeout)
        assert self.returncode is not None, "the process goes on after its time"
        out = self._out.read_text() if self._out.exists() else ""
        self._out.unlink(missing_ok=True)
        return out, None


def _command_line(words, cwd, out):
    os.setsid()
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    sys.argv = ["flowgen", *words]
    handle = os.open(out, os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    import torch

    from flowgen.cli import main

    torch.set_num_threads(1)
    sys.exit(main(words))
