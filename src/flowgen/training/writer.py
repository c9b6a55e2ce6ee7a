"""One piece of work at a time, in a thread of its own, with its result fetched later."""

import threading
from collections.abc import Callable


class Writer:
    """Does one piece of work in the background; the next one waits for it.

    The thread is waited for when the interpreter ends, so that what has begun is finished.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._result = ""
        self._error: BaseException | None = None

    def start(self, work: Callable[[], str], *, behind: bool = True) -> None:
        """Begin, once what was begun before has ended.

        Args:
            work: To be done.
            behind: Whether to return at once; otherwise the work is done here and now.

        Raises:
            BaseException: What the work before has raised, or this one where it is done now.
        """
        self.finish()
        if not behind:
            self._result = work()
            return
        self._thread = threading.Thread(target=self._work, args=(work,), name="checkpoint writer")
        self._thread.start()

    def finish(self) -> str:
        """Wait, and return what the work has returned; an empty string if there was none.

        Raises:
            BaseException: What the work has raised.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        result, error = self._result, self._error
        self._result, self._error = "", None
        if error is not None:
            raise error
        return result

    @property
    def broken(self) -> bool:
        """Whether the work has raised something that nobody has been told yet."""
        return self._error is not None

    def _work(self, work: Callable[[], str]) -> None:
        try:
            self._result = work()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever asks
            self._error = error
