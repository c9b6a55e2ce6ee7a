"""Edits side by side on held-out digits: how near results stay, and whether they are what is asked.

    python benchmarks/editing.py RUN > benchmarks/results/editing.json

RUN is a class-conditional model of the digits, e.g. that of `flowgen train experiment=digits`. Each
of 256 held-out images is given back under its own label (reconstruction: PSNR in decibels and SSIM)
and changed into the next digit (edit: PSNR to the image, and how often a classifier that was fitted
to the training images sees the digit that was asked for). Heun's method, 20 steps, guidance 2 for
the edit, one noise for all methods. Below `inversion` plain inversion by other steps, at 40
evaluations each way but where the name says 20.

Windows of SSIM need 11 pixels, those of LPIPS 31: both are of the images enlarged four times, each
pixel a square. With `--lpips ALEXNET HEADS` (the files that `flowgen edit lpips_weights=` takes)
LPIPS is measured too.
"""

import argparse
import json
import subprocess
from typing import Any

import torch
from torch import Tensor

from flowgen.data import Digits
from flowgen.integrators import (
    RK4,
    AdamsBashforth,
    Euler,
    Heun,
    Midpoint,
    Sampler,
    Stepper,
    Uniform,
)
from flowgen.metrics import LPIPS, LabelClassifier, psnr, ssim
from flowgen.pipeline import load
from flowgen.pipeline.editing import ControlledInversion, Edit, Inversion, Noising, edited

NUM_IMAGES = 256
HEUN = Sampler(Heun(), Uniform(), 20)


def methods() -> dict[str, tuple[Edit, Sampler]]:
    """Return the edits by name, and the sampler of each."""
    edits: dict[str, Edit] = {f"noising {s}": Noising(s) for s in (0.3, 0.5, 0.7)}
    edits["inversion"] = Inversion()
    for eta in (0.3, 0.6, 0.9):
        for transport in (0.0, 0.2, 1.0):
            name = f"eta {eta}, transport {transport}"
            edits[name] = ControlledInversion(eta=eta, transport=transport)
    edits["eta 0.6, transport 0.2, at the end"] = ControlledInversion(
        eta=0.6, transport=0.2, at_end=True
    )
    found: dict[str, tuple[Edit, Sampler]] = {name: (edit, HEUN) for name, edit in edits.items()}
    steppers: dict[str, tuple[Stepper, int]] = {
        "inversion, euler": (Euler(), 40),
        "inversion, midpoint": (Midpoint(), 20),
        "inversion, ab2": (AdamsBashforth(2), 40),
        "inversion, rk4": (RK4(), 10),
        "inversion, euler, 20": (Euler(), 20),
        "inversion, midpoint, 20": (Midpoint(), 10),
        "inversion, heun, 20": (Heun(), 10),
    }
    for name, (stepper, steps) in steppers.items():
        found[name] = Inversion(), Sampler(stepper, Uniform(), steps)
    return found


def enlarged(images: Tensor) -> Tensor:
    """Return images with each pixel as a square of four by four."""
    return images.repeat_interleave(4, -1).repeat_interleave(4, -2)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--lpips", nargs=2, metavar=("ALEXNET", "HEADS"))
    arguments = parser.parse_args()
    lpips = LPIPS(*arguments.lpips) if arguments.lpips else None
    data = Digits()
    whole = data.train.__getitems__(list(range(len(data.train))))
    judge = LabelClassifier(whole["x_1"], whole["label"])
    batch = data.test.__getitems__(list(range(NUM_IMAGES)))
    x, wanted = batch["x_1"], (batch["label"] + 1) % 10
    was, asked = {"label": batch["label"]}, {"label": wanted.tolist()}
    own = load(arguments.run, device="cpu")
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    found: dict[str, Any] = {"commit": commit, "images": NUM_IMAGES}
    for name, (edit, sampler) in methods().items():
        model = own.with_sampler(sampler)
        again = edited(model, x, edit, was=was, chunk=NUM_IMAGES)
        new = edited(model.guided(2.0), x, edit, was=was, asked=asked, chunk=NUM_IMAGES)
        large = enlarged(again), enlarged(x)
        right = float(torch.eq(judge.predict(new), wanted).float().mean())
        found[name] = {
            "reconstruction, dB": round(psnr(again, x), 1),
            "reconstruction, SSIM": round(ssim(*large), 4),
            **({"reconstruction, LPIPS": round(float(lpips(*large).mean()), 4)} if lpips else {}),
            "edit, dB": round(psnr(new, x), 1),
            "asked digit": round(right, 3),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
