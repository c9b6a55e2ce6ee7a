"""``run.json``: what a run is and how it goes, for people, reports and for going on with it.

The status is ``running`` from the first step on and changes when the run ends; a process that was
killed leaves it. So the record names the process as well: on this machine it can be looked up, and
elsewhere its sign of life is the time of the file, which a thread renews.
"""

import json
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from flowgen import __version__
from flowgen.pipeline import atomic

NAME = "run.json"
"""Name of the record in the run folder."""

HEARTBEAT = 10.0
"""Seconds between two signs of life."""

STATUSES = ("running", "finished", "interrupted", "failed", "stopped")
"""``interrupted``: somebody asked to stop; ``stopped``: training itself gave up."""


class RunRecord:
    """The record of a run that this process trains.

    Args:
        folder: The run folder; it must exist.
        facts: What the run is: command, overrides, experiment, seed, max_steps, device.
        from_step: Steps taken before this session.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, from_step: int = 0) -> None:
        self.path = folder / NAME
        before = read_record(folder)
        sessions = [entry for entry in before.get("sessions", []) if isinstance(entry, dict)]
        sessions.append(
            {"started": _now(), "from_step": from_step, "ended": None, "to_step": None}
            | {"reason": None}
        )
        # What the run was started with stays; what it goes on with is new.
        first = {
            key: before[key] for key in ("command", "overrides", "experiment") if key in before
        }
        self.content: dict[str, Any] = {
            "status": "running",
            **facts,
            **first,
            **_software(),
            "process": process(),
            "sessions": sessions,
        }
        self._write()
        self._over = threading.Event()
        threading.Thread(target=self._beat, name="flowgen-heartbeat", daemon=True).start()

    def end(self, status: str, step: int, reason: str | None = None) -> None:
        """Write how the session ended; a full disk leaves the record as it was.

        Args:
            status: One of :data:`STATUSES`.
            step: Steps taken in all.
            reason: Why, in one line.
        """
        assert status in STATUSES
        self._over.set()
        self.content["status"] = status
        self.content["process"] = None
        self.content["sessions"][-1] |= {"ended": _now(), "to_step": step, "reason": reason}
        with suppress(OSError):
            self._write()

    def _write(self) -> None:
        _write(self.path.parent, self.content)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            with suppress(OSError):
                os.utime(self.path)


def _write(folder: Path, content: Mapping[str, Any]) -> None:
    with atomic(folder / NAME) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a run folder; empty if there is none, or none that can be read."""
    try:
        content = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def mark_finished(folder: Path, step: int) -> None:
    """Set the record of a run that was killed after its last step to ``finished``."""
    content = read_record(folder)
    if content and content.get("status") != "finished":
        content |= {"status": "finished", "process": None}
        sessions = content.get("sessions")
        if isinstance(sessions, list) and sessions and isinstance(sessions[-1], dict):
            sessions[-1]["to_step"] = step
        with suppress(OSError):
            _write(folder, content)


def is_training(folder: Path) -> bool:
    """Whether a process trains this run now; for one elsewhere, wait for a sign of life."""
    record = read_record(folder)
    owner = record.get("process")
    if record.get("status") != "running" or not isinstance(owner, dict):
        return False
    if owner.get("host") == socket.gethostname():
        pid = owner.get("pid")
        return isinstance(pid, int) and pid > 0 and owner.get("born") == _born(pid)
    before = _changed(folder)
    until = time.monotonic() + 3 * HEARTBEAT
    while time.monotonic() < until:
        if _changed(folder) != before:
            return True
        time.sleep(HEARTBEAT / 20)
    return False


def process() -> dict[str, Any]:
    """Return what tells this process from all others: host, number, time of birth."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}


def _born(pid: int) -> str | None:
    """When a process was started, in a form to compare; None if there is no such process."""
    with suppress(OSError):
        # Everything after the name, which may hold spaces: field 22 is the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "dead" if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return "alive"
    return None if Path("/proc/self/stat").exists() else "alive"


def _changed(folder: Path) -> int:
    try:
        return (folder / NAME).stat().st_mtime_ns
    except OSError:
        return 0


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _software() -> dict[str, Any]:
    return {
        "flowgen": __version__,
        **{name: version(name) for name in ("torch", "lightning")},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the checkout that flowgen runs from, ``-dirty`` where files have changed."""
    if not _git("ls-files", Path(__file__).name):
        return None  # an installed package inside somebody else's repository
    found = _git("rev-parse", "HEAD")
    return found + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*words: str) -> str:
    command: Sequence[str] = ("git", "-C", str(Path(__file__).parent), *words)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def device_name(device: torch.device) -> str:
    """Return the name of a device: the GPU's own, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
