"""Pictures of captions that a model of emoji never saw: looked at, and told by numbers.

    python benchmarks/text_to_emoji.py RUN FIGURE.png > benchmarks/results/text_to_emoji.json

RUN is a model of `flowgen train experiment=emoji`, stopped or finished. For every held-out caption
and style one picture is drawn (Heun's method, 15 steps, guidance 2.5) and looked for among all
held-out pictures of that style by the distance of EfficientNet-Lite0 features: how often the
caption's own picture is nearest, or among the five nearest. For comparison the other artist's
picture of the caption takes the place of the drawn one, and a random picture. The style is told by
the nearest held-out picture of any other caption, in both styles; of the artists' own pictures as
well. Frechet and kernel distances to the held-out pictures are for each category of ten or more,
beside them those of the other artist's pictures of the same captions; so few pictures bias a
Frechet distance upwards, both alike. The figure shows for the first held-out caption of each
category both styles, and the artist's own below.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowgen.data import EmojiData
from flowgen.integrators import Heun, Sampler, Uniform
from flowgen.metrics import EfficientNetLite0Features, GaussianStatistics, kernel_distance
from flowgen.pipeline import load

STYLES = ("twemoji", "openmoji")
GUIDANCE = 2.5


def found(query: Tensor, key: Tensor) -> dict[str, float]:
    """Return how often row ``i`` of the keys is nearest to row ``i`` of the queries."""
    rank = (torch.cdist(query, key) < (query - key).norm(dim=1, keepdim=True)).sum(dim=1)
    return {
        "nearest": round(float((rank == 0).float().mean()), 3),
        "among five": round(float((rank < 5).float().mean()), 3),
    }


def styles_of(query: Tensor, keys: list[Tensor]) -> Tensor:
    """Return the style ``(n,)`` of the key that is nearest to each query, its own row left out."""
    nearest = []
    for key in keys:
        distances = torch.cdist(query, key)
        nearest.append(distances.fill_diagonal_(torch.inf).min(dim=1).values)
    return torch.stack(nearest).argmin(dim=0)


def distances(a: Tensor, b: Tensor) -> dict[str, float]:
    """Return the Frechet and the kernel distance of as many features ``(n, d)``."""
    sides = [GaussianStatistics(a.shape[1]) for _ in range(2)]
    for side, rows in zip(sides, (a, b), strict=True):
        side.update(rows)
    kernel = kernel_distance(a, b, subset_size=len(a), num_subsets=1)
    return {"fd": round(sides[0].distance(sides[1])), "kd": round(kernel.mean, 3)}


def draw(rows: list[tuple[str, Tensor]], captions: list[str], file: Path) -> None:
    """Draw rows of pictures uint8 ``(n, 3, h, w)`` below their captions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.05 * len(captions) + 1, 1.05 * len(rows) + 0.4))
    grid = figure.subplots(len(rows), len(captions), squeeze=False)
    for axes_row, (name, pictures) in zip(grid, rows, strict=True):
        for axes, picture in zip(axes_row, pictures, strict=True):
            axes.imshow(picture.permute(1, 2, 0).numpy())
            axes.set_axis_off()
        axes_row[0].text(-0.15, 0.5, name, transform=axes_row[0].transAxes, ha="right", fontsize=8)
    for axes, caption in zip(grid[0], captions, strict=True):
        axes.set_title(caption[:30].replace(" ", "\n", 2), fontsize=6)
    figure.savefig(file, dpi=110, bbox_inches="tight")


def main() -> None:
    """Draw, look for, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("figure", type=Path)
    arguments = parser.parse_args()
    data = EmojiData(styles=STYLES)
    batch = data.test.__getitems__(list(range(len(data.test))))
    pictures = [
        {int(batch["caption"][i]): i for i in (batch["style"] == s).nonzero().flatten().tolist()}
        for s in range(len(STYLES))
    ]
    both = sorted(set(pictures[0]) & set(pictures[1]))
    captions = [data.captions[number] for number in both]
    own = load(arguments.run, device="cpu")
    own = own.with_sampler(Sampler(Heun(), Uniform(), 15)).guided(GUIDANCE)
    features = EfficientNetLite0Features()
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    result: dict[str, Any] = {
        "commit": commit,
        "steps": own.about.get("step"),
        "captions": len(both),
        "guidance": GUIDANCE,
    }
    real = [batch["x_1"][[pictures[s][number] for number in both]] for s in range(len(STYLES))]
    drawn = [
        own.sample(len(both), cond={"prompt": captions, "style": style}, seed=1) for style in STYLES
    ]
    key, query = [features(x) for x in real], [features(x) for x in drawn]
    label = batch["label"][[pictures[0][number] for number in both]]
    chance = torch.randperm(len(both), generator=torch.Generator().manual_seed(0))
    for s, style in enumerate(STYLES):
        categories = {}
        for i, name in enumerate(data.label_names or ()):
            rows = (label == i).nonzero().flatten()
            if len(rows) >= 10:
                categories[name] = {
                    "captions": len(rows),
                    "drawn": distances(query[s][rows], key[s][rows]),
                    "the other artist's": distances(key[1 - s][rows], key[s][rows]),
                }
        result[style] = {
            "found by the drawn picture": found(query[s], key[s]),
            "by the other artist's": found(key[1 - s], key[s]),
            "by a random one": found(key[s][chance], key[s]),
            "nearest of its own style": {
                "drawn": round(float((styles_of(query[s], key) == s).float().mean()), 3),
                "the artist's": round(float((styles_of(key[s], key) == s).float().mean()), 3),
            },
            "by category": categories,
        }
    first = [int((label == i).nonzero()[0]) for i in label.unique().tolist()]
    rows = []
    for s, style in enumerate(STYLES):
        rows += [(f"{style}, drawn", drawn[s][first]), ("the artist's", real[s][first])]
    draw(rows, [captions[i] for i in first], arguments.figure)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
