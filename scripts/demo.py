"""The demo: train on scikit-learn's digits, sample each class, say what is next."""

import sys
import time
from pathlib import Path

from flowgen.cli.main import main


def demo(*overrides: str) -> int:
    """Train, sample and print where the results are; return the exit code.

    Args:
        overrides: More settings of the training, such as ``trainer.max_steps=100``.
    """
    start = time.perf_counter()
    run = Path("runs") / "demo" / time.strftime("%Y-%m-%d_%H-%M-%S")
    if code := main(["train", "experiment=digits", f"run_dir={run}", *overrides]):
        return code
    if code := main(["sample", f"checkpoint={run}", "num_samples=100", f"out={run}/grid.png"]):
        return code
    flowgen = Path(sys.executable).with_name("flowgen")
    sys.stdout.write(
        f"\nThe demo took {time.perf_counter() - start:.0f} s (without the installation).\n"
        f"  samples, one class in each column:  {run}/grid.png\n"
        f"  run folder:                         {run}\n"
        "Next, draw sevens with guidance:\n"
        f"  {flowgen} sample checkpoint={run} label=7 guidance.scale=2 out=sevens.png\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(demo(*sys.argv[1:]))
