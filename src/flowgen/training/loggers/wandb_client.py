"""The process that the client of Weights & Biases keeps beside ours, and how to be rid of it.

The client waits for that process, also at the exit of the interpreter, and has no public way to
stop waiting. So its handle is looked up where the client (seen in 0.31) keeps it; where that has
moved, nothing is stopped and only the client's own limits hold.
"""

import os
from contextlib import suppress


def stop_client() -> None:
    """Kill the client's process and forget it, so that calls fail and a new run gets a new one."""
    from wandb.sdk import wandb_setup

    with suppress(AttributeError):
        singleton = wandb_setup._singleton
        wandb_setup._singleton = None
        os.environ.pop("WANDB_SERVICE", None)  # the address of the process
        connection = singleton._connection  # pyright: ignore[reportOptionalMemberAccess]
        connection._cleanup()  # pyright: ignore[reportOptionalMemberAccess, reportOptionalCall]
        connection._proc._process.kill()  # pyright: ignore[reportOptionalMemberAccess]
