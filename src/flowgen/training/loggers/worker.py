"""Calls on a thread of their own, in order: whoever makes them does not wait and does not fail."""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable

from tqdm import tqdm

CAPACITY = 10_000
"""Calls that may wait for a slow service; with more it counts as dead."""

Call = Callable[[], None]


class Worker:
    """Runs calls one after the other; the first that fails and is not rescued ends the work.

    Args:
        title: Of what the calls go to, for messages.
        rescue: Takes the reason of a failure; returns whether calls can go on, in another way.
        patience: Most seconds that :meth:`wait` takes, over all its calls.
    """

    def __init__(self, title: str, rescue: Callable[[str], bool], patience: float) -> None:
        self.title = title
        self.failure: str | None = None
        self.left = patience
        self._rescue = rescue
        self._calls: queue.Queue[tuple[Call, bool]] = queue.Queue(CAPACITY)
        self._stop = threading.Event()
        threading.Thread(target=self._work, name=title, daemon=True).start()

    def submit(self, call: Call) -> None:
        """Run a call after those before; it is dropped once the work has failed."""
        if self.failure is None:
            self._put(call, after_failure=False)

    def wait(self, seconds: float) -> bool:
        """Return whether all calls so far were done, or given up, within ``seconds``."""
        start = time.monotonic()
        done = threading.Event()
        self._put(done.set, after_failure=True)
        finished = done.wait(min(seconds, self.left))
        self.left = max(0.0, self.left - (time.monotonic() - start))
        return finished

    def stop(self) -> None:
        """End the thread after the calls so far."""
        self._put(self._stop.set, after_failure=True)

    def fail(self, reason: str) -> None:
        """Give up, with one line."""
        if self.failure is None:
            self.failure = reason
            tell(f"{self.title} failed ({reason}): metrics.csv goes on without it")

    def _put(self, call: Call, *, after_failure: bool) -> None:
        try:
            self._calls.put_nowait((call, after_failure))
        except queue.Full:
            self.fail(f"it does not keep up, {CAPACITY} calls wait")

    def _work(self) -> None:
        while not self._stop.is_set():
            call, after_failure = self._calls.get()
            if after_failure:
                call()
            elif self.failure is None:
                self._run(call)

    def _run(self, call: Call) -> None:
        try:
            call()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - no fault of a service stops a run
            reason = one_line(error)
        else:
            return
        try:
            rescued = self._rescue(reason)
            if rescued:
                call()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the same
            rescued, reason = False, f"{reason}; then {one_line(error)}"
        if not rescued:
            self.fail(reason)


def tell(message: str) -> None:
    """Warn in one line, above the progress bar if there is one."""
    with tqdm.external_write_mode(file=sys.stderr):
        # A logger of our own: the command line silences Lightning's below warnings.
        logging.getLogger(__name__).warning(message)


def one_line(error: BaseException) -> str:
    """Return what went wrong in few words."""
    return " ".join(str(error).split())[:120] or type(error).__name__
