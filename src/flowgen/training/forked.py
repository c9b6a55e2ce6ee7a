"""An iterator that works ahead in a process of its own, on another core.

A thread shares the interpreter with the training loop: each of the small operations of a step gives
the lock away and has to win it back, so that a solver beside a small network costs its full time.
A forked process has an interpreter of its own, starts with the objects as they are, and sends its
items through a pipe. It must not touch an accelerator, nor talk to other processes of the run.
"""

import atexit
import io
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from flowgen.core import TrainingFailedError

T = TypeVar("T")

_PARENT_CHECKED = 5.0
"""Seconds after which a waiting worker looks whether anybody is still there to receive."""


def can_fork() -> bool:
    """Return whether this process may work ahead in a fork of itself."""
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    # On macOS the system's own libraries do not survive a fork.
    known = sys.platform != "darwin" and "fork" in multiprocessing.get_all_start_methods()
    return alone and known and not multiprocessing.current_process().daemon


def forked(make: Callable[[], Iterator[T]], ahead: int) -> Iterator[T]:
    """Yield the items of ``make()``, made in a fork of this process, up to ``ahead`` of them early.

    Args:
        make: Called in the other process, with everything as it is at the first ``next``.
        ahead: Most items that wait to be taken, >= 1. Tensors must be on the CPU.

    Raises:
        Exception: Whatever ``make()`` raised there.
        TrainingFailedError: If the other process died.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    places = context.Semaphore(ahead)
    worker = context.Process(
        target=_work, args=(make, receiver, sender, places, os.getpid()), name="pairing"
    )
    worker.start()
    sender.close()
    # Leaving the interpreter waits for processes: this one is stopped before.
    atexit.register(worker.kill)
    try:
        while True:
            try:
                kind, content = pickle.loads(receiver.recv_bytes())  # noqa: S301 - of our own fork
            except EOFError:
                worker.join()
                raise TrainingFailedError(
                    f"the process that prepares the pairs ended with exit code {worker.exitcode} "
                    "(-9: the system ran out of memory): use smaller batches, or pairing.ahead=0"
                ) from None
            if kind == "item":
                places.release()
                yield content
            elif kind == "error":
                raise content
            else:
                return
    finally:
        atexit.unregister(worker.kill)
        worker.kill()
        worker.join()
        receiver.close()


def _work(
    make: Callable[[], Iterator[Any]], receiver: Any, sender: Any, places: Any, parent: int
) -> None:
    receiver.close()
    for signum in (signal.SIGINT, signal.SIGTERM):
        # Whoever trains decides what a signal means for the run.
        signal.signal(signum, signal.SIG_IGN)
    # The parallel regions of the parent's threads do not exist here.
    torch.set_num_threads(1)
    try:
        for item in make():
            while not places.acquire(timeout=_PARENT_CHECKED):
                if os.getppid() != parent:
                    return
            sender.send_bytes(_pickled(("item", item)))
        last: tuple[str, Any] = ("end", None)
    except BrokenPipeError:
        return
    except Exception as error:  # noqa: BLE001 - raised again where the items are taken
        last = ("error", _portable(error))
    try:
        sender.send_bytes(_pickled(last))
    except BrokenPipeError:
        return


class _Pickler(pickle.Pickler):
    """Writes tensors as arrays: bytes in the pipe, in place of a handle to shared memory."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor) and obj.dtype not in (torch.bfloat16,):
            return torch.from_numpy, (obj.numpy(),)
        return NotImplemented


def _pickled(content: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(content)
    return buffer.getvalue()


def _portable(error: Exception) -> Exception:
    """Return the error, or one that tells of it where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - of this very process
    except Exception:  # noqa: BLE001 - any error's own code may fail here
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
