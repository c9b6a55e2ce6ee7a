"""Edits side by side on held-out digits: how near results stay, and whether they are what is asked.

    python benchmarks/editing.py RUN > benchmarks/results/editing.json

RUN is a class-conditional model of the digits, e.g. that of `flowgen train experiment=digits`. Each
of 256 held-out images is given back under its own label (reconstruction: PSNR in decibels) and
changed into the next digit (edit: PSNR to the image, and how often a classifier that was fitted to
the training images sees the digit that was asked for). Heun's method, 20 steps, guidance 2 for the
edit, one noise for all methods.
"""

import argparse
import json
import subprocess
from typing import Any

import torch

from flowgen.data import Digits
from flowgen.integrators import Heun, Sampler, Uniform
from flowgen.metrics import LabelClassifier, psnr
from flowgen.pipeline import load
from flowgen.pipeline.editing import ControlledInversion, Edit, Inversion, Noising, edited

NUM_IMAGES = 256


def methods() -> dict[str, Edit]:
    """Return the edits by name."""
    found: dict[str, Edit] = {f"noising {s}": Noising(s) for s in (0.3, 0.5, 0.7)}
    found["inversion"] = Inversion()
    for eta in (0.3, 0.6, 0.9):
        for transport in (0.0, 0.2, 1.0):
            name = f"eta {eta}, transport {transport}"
            found[name] = ControlledInversion(eta=eta, transport=transport)
    found["eta 0.6, transport 0.2, at the end"] = ControlledInversion(
        eta=0.6, transport=0.2, at_end=True
    )
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run")
    arguments = parser.parse_args()
    data = Digits()
    whole = data.train.__getitems__(list(range(len(data.train))))
    judge = LabelClassifier(whole["x_1"], whole["label"])
    batch = data.test.__getitems__(list(range(NUM_IMAGES)))
    x, wanted = batch["x_1"], (batch["label"] + 1) % 10
    own = load(arguments.run, device="cpu").with_sampler(Sampler(Heun(), Uniform(), 20))
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    found: dict[str, Any] = {"commit": commit, "images": NUM_IMAGES}
    for name, edit in methods().items():
        was = {"label": batch["label"]}
        again = edited(own, x, edit, was=was)
        asked = {"label": wanted.tolist()}
        new = edited(own.guided(2.0), x, edit, was=was, asked=asked)
        right = float(torch.eq(judge.predict(new), wanted).float().mean())
        found[name] = {
            "reconstruction, dB": round(psnr(again, x), 1),
            "edit, dB": round(psnr(new, x), 1),
            "asked digit": round(right, 3),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
