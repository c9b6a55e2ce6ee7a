"""The process that the client of Weights & Biases keeps beside ours, and how to be rid of it.

The client waits for that process when a run ends and again when the interpreter does, and where it
hangs, it has no public limit for that. So the handle is looked up where the client (seen in 0.31)
keeps it; where that has moved, only the limits of the client itself hold.
"""

import os
import threading
from contextlib import suppress
from typing import Any

GRACE = 1.5
"""Seconds in which the process may end by itself."""


def kill_client() -> None:
    """Kill the client's process and forget it, so that calls fail and a new run gets a new one."""
    from wandb.sdk import wandb_setup

    with suppress(AttributeError):
        singleton: Any = wandb_setup._singleton
        wandb_setup._singleton = None
        os.environ.pop("WANDB_SERVICE", None)  # the address of the process
        singleton._connection._cleanup()
        singleton._connection._proc._process.kill()


def end_client() -> None:
    """Let the client's process end, and kill it where it does not; nothing if a run still goes on.

    What a finished run logged is on disk.
    """
    import wandb
    from wandb.sdk import wandb_setup

    if wandb.run is not None:
        return
    process: Any = None
    with suppress(AttributeError):
        singleton: Any = wandb_setup._singleton
        process = singleton._connection._proc._process
    ending = threading.Thread(target=wandb.teardown, name="teardown", daemon=True)
    ending.start()
    ending.join(GRACE)
    if process is not None and ending.is_alive():
        process.kill()
