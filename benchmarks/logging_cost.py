"""What a dead logging service costs a short run: seconds above a run that only writes metrics.csv.

Usage: python benchmarks/logging_cost.py OUT.json [ROUNDS]

Each case trains two moons for a few seconds in a process of its own. Weights & Biases is to be
online where the service is dead or dies in one way, or offline where the client dies or is stopped.
Times run from the line that introduces the run to the exit of the process; a round runs all cases
one after the other, and a difference is taken inside its round. Linux only.
"""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from wandb_server import Server  # noqa: E402 - the one the tests use

STEPS = 400
LIVING: dict[str, Server] = {}
WORDS = [
    *("experiment=moons", "data.num_train=2000", "trainer=cpu", "threads=1"),
    *(f"trainer.max_steps={STEPS}", "trainer.log_every_n_steps=10", "callbacks=quiet"),
]


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """Give an address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def silent_socket() -> Iterator[str]:
    """Give an address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def hanging_server() -> Iterator[str]:
    """Give an address that answers the first look and hangs on every real request."""
    with server() as url:
        LIVING[url].hangs = True
        yield url


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Give the address of a service that works."""
    living = Server()
    LIVING[living.url] = living
    yield living.url
    LIVING.pop(living.url).hangs = False
    with contextlib.suppress(OSError):
        living.close()


@contextlib.contextmanager
def no_service() -> Iterator[None]:
    """Give no address."""
    yield None


def signal_client(sort: signal.Signals) -> Callable[[int], None]:
    """Return what sends a signal to the client's process below a run, once it is there."""

    def send(run: int) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for tasks in Path(f"/proc/{run}/task").glob("*/children"):
                for child in tasks.read_text().split():
                    if "wandb-core" in Path(f"/proc/{child}/cmdline").read_text():
                        time.sleep(2.0)  # the run is in its steps
                        os.kill(int(child), sort)
                        return
            time.sleep(0.05)

    return send


def stop_server(sort: str) -> Callable[[int], None]:
    """Return what makes the server hang, or go away, once a run has arrived there."""

    def stop(run: int) -> None:
        del run
        (living,) = LIVING.values()
        deadline = time.monotonic() + 60
        while not living.history and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2.0)  # the run is in its steps
        living.hangs = True
        if sort == "gone":
            living.close()

    return stop


ONLINE = ["logger=wandb", "logger.wandb.mode=online"]
OFFLINE = ["logger=wandb", "logger.wandb.mode=offline"]
CASES = {
    "metrics.csv only": ([], no_service, None),
    "offline, as asked": (OFFLINE, no_service, None),
    "online, alive": (ONLINE, server, None),
    "nothing listens": (ONLINE, closed_port, None),
    "accepts, never answers": (ONLINE, silent_socket, None),
    "answers once, then hangs": (ONLINE, hanging_server, None),
    "hangs in the middle": (ONLINE, server, stop_server("hangs")),
    "gone in the middle": (ONLINE, server, stop_server("gone")),
    "client killed in the middle": (OFFLINE, no_service, signal_client(signal.SIGKILL)),
    "client stopped in the middle": (OFFLINE, no_service, signal_client(signal.SIGSTOP)),
}
"""Each case: the overrides, the service, and what is done during the run."""


def once(name: str, folder: Path) -> dict[str, Any]:
    """Run a case; return its seconds, the rows of its curve and what it said."""
    words, service, harm = CASES[name]
    run = folder / "run"
    said = folder / "said"
    with service() as url, said.open("w") as errors:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        environment |= {"OMP_NUM_THREADS": "1", "WANDB_CONFIG_DIR": str(folder)}
        if url is not None:
            environment |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": url}
        process = subprocess.Popen(
            [sys.executable, "-m", "flowgen", "train", *WORDS, *words, f"run_dir={run}"],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
        )
        if harm is not None:
            threading.Thread(target=harm, args=(process.pid,), daemon=True).start()
        assert process.stdout is not None
        start = next((time.perf_counter() for line in process.stdout if line[:4] == "run "), 0.0)
        process.communicate(timeout=300)
        seconds = time.perf_counter() - start
    lines = said.read_text().splitlines()
    return {
        "seconds": seconds,
        "exit_code": process.returncode,
        "rows": len((run / "metrics.csv").read_text().splitlines()) - 1,
        "said": [line.replace(str(folder), "") for line in lines if "Weights & Biases" in line],
        "tracebacks": sum("Traceback" in line for line in lines),
    }


def main(out: Path, rounds: int = 3) -> None:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name in CASES:
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(once(name, Path(folder)))
    plain = [run["seconds"] for run in found["metrics.csv only"]]
    cases = {}
    for name, runs in found.items():
        above = [run["seconds"] - base for run, base in zip(runs, plain, strict=True)]
        cases[name] = {
            "seconds": round(statistics.median(run["seconds"] for run in runs), 1),
            "above_csv": round(statistics.median(above), 1),
            "longest_above_csv": round(max(above), 1),
            "exit_codes": sorted({run["exit_code"] for run in runs}),
            "rows": sorted({run["rows"] for run in runs}),
            "tracebacks": sum(run["tracebacks"] for run in runs),
            "said": runs[-1]["said"],
        }
        print(name, cases[name])
    content = {"steps": STEPS, "rounds": rounds, "cores": os.cpu_count(), "cases": cases}
    out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
