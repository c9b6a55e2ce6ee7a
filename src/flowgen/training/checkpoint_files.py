"""The files of a run's checkpoints: one that is always whole, copies of it, and which of them stay.

Nothing here looks at a run, so that all of it may be done by another thread than trains.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowgen.pipeline import atomic
from flowgen.training.loggers.worker import tell

_COPY = re.compile(r"step_(\d{7,})\.ckpt")
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}")


@dataclass(frozen=True)
class CheckpointFiles:
    """Writes ``last.ckpt`` and its copies.

    Args:
        path: Of ``last.ckpt``; the copies lie beside it.
        keep_last: How many ``step_<n>.ckpt`` are kept, the newest one included.
        keep_every: Those whose step is a multiple of this stay for good; None for none.
    """

    path: Path
    keep_last: int
    keep_every: int | None

    def write(self, content: Mapping[str, Any], step: int, *, best: bool) -> str:
        """Write a checkpoint and remove what need not stay; a copy that fails costs a line.

        Args:
            content: Plain values and tensors.
            step: Optimiser steps taken.
            best: Whether it is also ``best.ckpt`` from now on.

        Returns:
            Why it could not be written, or an empty string.
        """
        try:
            with _disk(), atomic(self.path) as temporary, temporary.open("wb") as file:
                torch.save(content, file)
        except OSError as error:
            return error.strerror or str(error)
        try:
            if best:
                _copy(self.path, self.path.with_name("best.ckpt"))
            if self._kept(step) or self.keep_last:
                _copy(self.path, self.path.with_name(f"step_{step:07d}.ckpt"))
            self._remove_old(step)
        except OSError as error:
            tell(f"no copy of the checkpoint of step {step} ({error.strerror or error})")
        return ""

    def _kept(self, step: int) -> bool:
        return self.keep_every is not None and step > 0 and step % self.keep_every == 0

    def _remove_old(self, step: int) -> None:
        found = {
            int(match[1]): path
            for path in self.path.parent.iterdir()
            if (match := _COPY.fullmatch(path.name))
        }
        # Later ones are of a future that a resumed run has left.
        past = sorted(each for each in found if each <= step)
        newest = past[max(0, len(past) - self.keep_last) :]
        for each in found:
            if each not in newest and not (each <= step and self._kept(each)):
                found[each].unlink(missing_ok=True)


@contextmanager
def _disk() -> Iterator[None]:
    """Raise the system's error where torch hides it behind one of its own."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _copy(file: Path, target: Path) -> None:
    """Give ``file`` a second name, replacing what had it; copy it where there are no links."""
    temporary = target.with_name(f".{target.name}.linking_")
    temporary.unlink(missing_ok=True)
    try:
        os.link(file, temporary)
        temporary.replace(target)
    except OSError:
        with atomic(target) as copy:
            shutil.copyfile(file, copy)
    finally:
        # Renaming one name of a file to another name of it does nothing.
        temporary.unlink(missing_ok=True)


def remove_leftovers(*folders: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for folder in folders:
        with suppress(OSError):
            for path in folder.iterdir():
                if _LEFTOVER.fullmatch(path.name) and path.is_file():
                    path.unlink(missing_ok=True)
