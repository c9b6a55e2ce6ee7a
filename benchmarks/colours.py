"""Colours for grey emoji: guidance by the grey image against plain noise, and a picture.

    python benchmarks/colours.py docs/images/colours.png > benchmarks/results/colours.json

No model is trained: the flow is the exact one of 400 emoji of 16x16 pixels, each with noise of
standard deviation 0.1 in units of [-1, 1]. So what is seen is the method and no network: the
right colours are those of the emoji with that grey. 48 of the 400 lose their colours and get new
ones by `edit=colours` (two seeds) and by noising the grey picture by half and by nine tenths. By
Heun, 40 steps. Figures: PSNR to the picture in colour and to the grey one (the mean of the
channels), in decibels, and how often the nearest of the 400 is the right one.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgen.core import Condition
from flowgen.data import EmojiData, Gaussian, Pixels
from flowgen.integrators import Heun, Sampler, Uniform
from flowgen.metrics import psnr
from flowgen.models import PredictionField
from flowgen.paths import AffinePath, Linear, Velocity
from flowgen.pipeline import Pipeline
from flowgen.pipeline.editing import Colours, Edit, Noising, edited
from flowgen.pipeline.images import grid, save_image

KNOWN, COLOURED, SHOWN, SPREAD = 400, 48, 12, 0.1


class Exact(nn.Module):
    """The velocity of data that are one of ``pictures (n, c, h, w)``, each with noise."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(pictures.flatten(1))

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(b, c, h, w)``."""
        del cond
        flat, t = x.flatten(1), t[:, None]
        variance = (t * SPREAD) ** 2 + (1 - t) ** 2
        # |x - t m|^2 without the pairs themselves
        apart = t**2 * self.means.square().sum(dim=1) - 2 * t * flat @ self.means.T
        mean = torch.softmax(-apart / (2 * variance), dim=1) @ self.means
        slope = (t * SPREAD**2 - (1 - t)) / variance
        return (mean + slope * (flat - t * mean)).reshape(x.shape)


def main() -> None:
    """Print the figures and draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("figure", type=Path)
    arguments = parser.parse_args()
    data = EmojiData(size=16)
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(len(data.train), generator=generator)[:KNOWN].tolist()
    known = data.train.__getitems__(places)["x_1"]
    field = PredictionField(Exact(Pixels().encode(known)), AffinePath(Linear()), Velocity())
    sampler = Sampler(Heun(), Uniform(), 40)
    pipeline = Pipeline(field, Gaussian(known.shape[1:]), sampler, Pixels())
    x = known[:COLOURED]
    grey = x.float().mean(dim=1, keepdim=True).round().to(torch.uint8)
    grey = grey.expand(-1, 3, -1, -1).contiguous()
    methods: dict[str, tuple[Edit, int]] = {
        "colours": (Colours(), 0),
        "colours, another seed": (Colours(), 1),
        "noising 0.5": (Noising(0.5), 0),
        "noising 0.9": (Noising(0.9), 0),
    }
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    found: dict[str, Any] = {"commit": commit, "known": KNOWN, "coloured": COLOURED}
    rows = [x, grey]
    for name, (edit, seed) in {"nothing": (Noising(0.0), 0), **methods}.items():
        new = edited(pipeline, grey, edit, seed=seed)
        own = new.float().mean(dim=1, keepdim=True).round().to(torch.uint8)
        nearest = torch.cdist(new.flatten(1).float(), known.flatten(1).float()).argmin(dim=1)
        found[name] = {
            "to the colours, dB": round(psnr(new, x), 1),
            "to the grey, dB": round(psnr(own, grey[:, :1].contiguous()), 1),
            "right one nearest": round(
                float((nearest == torch.arange(COLOURED)).float().mean()), 3
            ),
        }
        if name in methods:
            rows.append(new)
    save_image(grid(torch.cat([row[:SHOWN] for row in rows]), SHOWN), arguments.figure)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
