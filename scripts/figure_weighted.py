"""Weighted pairs against transport and random pairs, with their tilt. Writes a figure.

``python scripts/figure_weighted.py [out.png] [steps]``: a flow from Gaussian noise to two moons in
each of several couplings. Prints the table of docs/couplings.md.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from toy_flows import distance, moons, sample, train

from flowgen.core import Coupling, Pair, generator_for
from flowgen.couplings import DataTilt, ExactAssignment, Independent, SinkhornTilt, Weighted

BATCH = 256
NUM_SHOWN = 2000

COUPLINGS: dict[str, Callable[[], Coupling]] = {
    "independent": Independent,
    "exact_assignment": ExactAssignment,
    "weighted, kappa 3.3 (elbow)": lambda: Weighted(3.3),
    "weighted, kappa 0.5": lambda: Weighted(0.5),
    "weighted_data, kappa 0.5": lambda: Weighted(0.5, correction=DataTilt()),
    "weighted_sinkhorn, kappa 0.5": lambda: Weighted(0.5, correction=SinkhornTilt()),
}


def draw(generator: torch.Generator) -> Pair:
    """Return independent pairs of noise and moons."""
    x_1, _ = moons(BATCH, generator)
    return Pair(torch.randn(BATCH, 2, generator=generator), x_1)


def main(out: Path, steps: int) -> None:
    """Train, measure, print a table and write the figure."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True).flat
    sys.stdout.write("| coupling | effective share | tilt of source, data ")
    sys.stdout.write("| W2, 4 Euler steps | W2, fine |\n| --- | --- | --- | --- | --- |\n")
    test = generator_for(7)
    data, _ = moons(NUM_SHOWN, test)
    noise = torch.randn(len(data), 2, generator=test)
    again, _ = moons(NUM_SHOWN, test)
    for axes, (name, make) in zip(panels, COUPLINGS.items(), strict=True):
        couple = make()
        model = train(lambda g, c=couple: c(draw(g)), num_classes=None, steps=steps)
        ends = {euler: sample(model, noise, euler=euler) for euler in (4, 0)}
        far = [distance(end, data) for end in ends.values()]
        stats = couple(draw(generator_for(5))).stats
        ess = float(stats.get("coupling/ess", 1.0))
        tilt = [float(stats.get(f"coupling/rv_{side}", 0.0)) for side in "xy"]
        axes.scatter(*data.T, s=2, c="0.85", linewidths=0)
        axes.scatter(*ends[0].T, s=2, c="tab:blue", linewidths=0)
        axes.set_title(f"{name}\nW2 {far[1]:.2f}, by 4 steps {far[0]:.2f}", fontsize=8)
        axes.set_aspect("equal")
        axes.tick_params(labelsize=7)
        sys.stdout.write(
            f"| {name} | {ess:.2f} | {tilt[0]:.2g}, {tilt[1]:.2g} | {far[0]:.3f} | {far[1]:.3f} |\n"
        )
    sys.stdout.write(f"floor, of two sets of data: {distance(again, data):.3f}\n")
    figure.savefig(out, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/coupling_weighted.png"),
        int(sys.argv[2]) if len(sys.argv) > 2 else 4000,
    )
