"""Can the label be told from the noise, and what does it do to samples? Writes a figure.

``python scripts/figure_labels.py [out.png] [steps]``: a flow from Gaussian noise to two moons, with
the moon as its label, trained after several couplings. Plain transport is refused by flowgen for
this; here it is applied behind its back, to show why. Prints the table of docs/couplings.md.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from toy_flows import distance, moons, sample, train

from flowgen.core import Pair, generator_for
from flowgen.couplings import ClassAssignment, ConditionAssignment, ExactAssignment, Independent
from flowgen.metrics import label_probe

BATCH = 256
NUM_SHOWN = 1000


def plain(pair: Pair) -> Pair:
    """Return pairs of plain transport, their labels hidden from it and put back."""
    return replace(ExactAssignment()(replace(pair, cond=None)), cond=pair.cond)


COUPLINGS: dict[str, Callable[[Pair], Pair]] = {
    "independent": Independent(),
    "exact_assignment (refused)": plain,
    "class_assignment": ClassAssignment(),
    "condition_assignment, ratio 0.3": ConditionAssignment(0.3),
}


def draw(generator: torch.Generator) -> Pair:
    """Return independent pairs of noise and labelled moons."""
    x_1, label = moons(BATCH, generator)
    return Pair(torch.randn(BATCH, 2, generator=generator), x_1, {"label": label})


def main(out: Path, steps: int) -> None:
    """Train, measure, print a table and write the figure."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    panels = figure.subplots(1, len(COUPLINGS), sharex=True, sharey=True)
    sys.stdout.write("| coupling | label told from $x_0$ | W2, 2 Euler steps | W2, fine |\n")
    sys.stdout.write("| --- | --- | --- | --- |\n")
    test = generator_for(7)
    data, label = moons(2 * NUM_SHOWN, test)
    noise = torch.randn(len(data), 2, generator=test)
    for axes, (name, couple) in zip(panels, COUPLINGS.items(), strict=True):
        generator = generator_for(3)
        pairs = [couple(draw(generator)) for _ in range(80)]
        told = label_probe(
            torch.cat([pair.x_0 for pair in pairs]),
            torch.cat([pair.cond["label"] for pair in pairs if pair.cond]),
        )
        model = train(lambda g, couple=couple: couple(draw(g)), num_classes=2, steps=steps)
        ends = {euler: sample(model, noise, label, euler=euler) for euler in (2, 0)}
        far = [
            sum(distance(end[label == k], data[label == k]) for k in (0, 1)) / 2
            for end in ends.values()
        ]
        axes.scatter(*data[:NUM_SHOWN].T, s=2, c="0.85", linewidths=0)
        for k, colour in enumerate(("tab:blue", "tab:orange")):
            shown = ends[0][:NUM_SHOWN][label[:NUM_SHOWN] == k]
            axes.scatter(*shown.T, s=2, c=colour, linewidths=0)
        axes.set_title(
            f"{name}\nlabel told from noise: {100 * told.accuracy:.0f} %"
            f" (chance {100 * told.chance:.0f} %)\nW2 {far[1]:.2f}, by 2 steps {far[0]:.2f}",
            fontsize=8,
        )
        axes.set_aspect("equal")
        axes.tick_params(labelsize=7)
        sys.stdout.write(
            f"| {name} | {100 * told.accuracy:.1f} % | {far[0]:.3f} | {far[1]:.3f} |\n"
        )
    figure.savefig(out, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/coupling_labels.png"),
        int(sys.argv[2]) if len(sys.argv) > 2 else 4000,
    )
