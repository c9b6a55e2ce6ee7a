"""What a dead logging service costs a short run: seconds above a run that only writes metrics.csv.

Usage: python benchmarks/logging_cost.py OUT.json [REPEATS]

Each case trains two moons for a few seconds in a process of its own. Weights & Biases is to be
online where the service is dead in one way, or offline with its own process killed or stopped in
the middle. Wall times are of the whole process, start to exit; medians of the repeats. Linux only.
"""

import contextlib
import http.server
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

STEPS = 400
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
def half_dead() -> Iterator[str]:
    """Give an address that answers the first look and hangs on every real request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            time.sleep(600)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


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


CASES = {
    "metrics.csv only": ([], no_service, None),
    "offline": (["logger=wandb", "logger.wandb.mode=offline"], no_service, None),
    "nothing listens": (["logger=wandb", "logger.wandb.mode=online"], closed_port, None),
    "accepts, never answers": (["logger=wandb", "logger.wandb.mode=online"], silent_socket, None),
    "answers once, then hangs": (["logger=wandb", "logger.wandb.mode=online"], half_dead, None),
    "client killed": (
        ["logger=wandb", "logger.wandb.mode=offline"],
        no_service,
        signal_client(signal.SIGKILL),
    ),
    "client stopped": (
        ["logger=wandb", "logger.wandb.mode=offline"],
        no_service,
        signal_client(signal.SIGSTOP),
    ),
}
"""Each case: the overrides, the service, and what is done to the run."""


def once(name: str, folder: Path) -> dict[str, object]:
    """Run a case; return its seconds, the rows of its curve and what it said."""
    words, service, harm = CASES[name]
    run = folder / "run"
    with service() as url:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        environment |= {"OMP_NUM_THREADS": "1"}
        if url is not None:
            environment |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": url}
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "flowgen", "train", *WORDS, *words, f"run_dir={run}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        if harm is not None:
            threading.Thread(target=harm, args=(process.pid,), daemon=True).start()
        _, errors = process.communicate(timeout=300)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "exit_code": process.returncode,
        "rows": len((run / "metrics.csv").read_text().splitlines()) - 1,
        "said": [line for line in errors.splitlines() if "Weights & Biases" in line],
        "errors": [line for line in errors.splitlines() if "Traceback" in line],
    }


def main(out: Path, repeats: int = 3) -> None:
    results: dict[str, dict[str, object]] = {}
    for name in CASES:
        runs = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(once(name, Path(folder)))
                said = [line.replace(folder, "") for line in runs[-1]["said"]]
        seconds = statistics.median(run["seconds"] for run in runs)
        results[name] = {
            "seconds": round(seconds, 2),
            "seconds_above_csv": 0.0,
            "longest_above_csv": round(max(run["seconds"] for run in runs), 2),
            "exit_code": max(run["exit_code"] for run in runs),
            "rows": min(run["rows"] for run in runs),
            "said": said,
            "tracebacks": sum(len(run["errors"]) for run in runs),
        }
        plain = results["metrics.csv only"]["seconds"]
        results[name]["seconds_above_csv"] = round(seconds - plain, 2)
        results[name]["longest_above_csv"] = round(results[name]["longest_above_csv"] - plain, 2)
        print(name, results[name])
    content = {"steps": STEPS, "repeats": repeats, "cores": os.cpu_count(), "cases": results}
    out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
