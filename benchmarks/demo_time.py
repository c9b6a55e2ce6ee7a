"""Measure `make demo` from a clean clone: seconds of installation and of the run, apart.

    python benchmarks/demo_time.py benchmarks/results/demo_time.json

Needs git, make and a Python with venv; clones the commit that is checked out.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def timed(*command: str, cwd: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True)
    return round(time.perf_counter() - start, 1)


def measure() -> dict[str, object]:
    git = ["git", "-C", str(REPOSITORY)]
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "flowgen"
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(clone)], check=True)
        install = timed("make", ".venv/.installed", cwd=clone)
        run = timed("make", "demo", cwd=clone)
    return {
        "commit": commit,
        "command": "make demo, in a clean clone",
        "install_seconds": install,
        "run_seconds": run,
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    text = json.dumps(measure(), indent=2)
    out.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
