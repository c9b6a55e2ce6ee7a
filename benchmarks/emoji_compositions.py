"""Emoji in skin tones that a model never saw them in: looked at, and told by numbers.

    python benchmarks/emoji_compositions.py RUN FIGURE.png > results/emoji_compositions.json

RUN is a model of `flowgen train experiment=emoji data.skin_tones=true`: of every base one tone is
held out. Each held-out composition is drawn in both styles (Heun's method, 15 steps, guidance 2.5).
Its tone is that of the artist's picture of the same base, in all tones, that is nearest by its
pixels; its base is that of the nearest by its EfficientNet-Lite0 features among the held-out
compositions of its tone. The same of as many compositions that were in training, and of the other
artist's pictures. The figure shows ten held-out ones in both styles, and the artist's own below.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from text_to_emoji import GUIDANCE, STYLES, draw
from torch import Tensor

from flowgen.data import EmojiData
from flowgen.data.emoji_list import list_emoji
from flowgen.integrators import Heun, Sampler, Uniform
from flowgen.metrics import EfficientNetLite0Features
from flowgen.pipeline import load

EMOJI = list_emoji()
Pictures = dict[int, Tensor]
"""uint8 ``(3, h, w)`` by the number of the emoji."""


def of_one_tone(batch: dict[str, Tensor], style: int) -> Pictures:
    """Return an artist's pictures with one skin tone; couples with two are left out."""
    rows = (batch["style"] == style).nonzero().flatten().tolist()
    numbers = [int(batch["caption"][row]) for row in rows]
    pairs = zip(numbers, rows, strict=True)
    return {n: batch["x_1"][row] for n, row in pairs if len(EMOJI[n].tones) == 1}


def stack(pictures: Pictures, numbers: list[int]) -> Tensor:
    """Return pictures in the order of numbers, ``(n, 3, h, w)``."""
    return torch.stack([pictures[number] for number in numbers])


def told(
    drawn: Tensor, numbers: list[int], own: Pictures, features: EfficientNetLite0Features
) -> dict[str, float]:
    """Return how often tone and base of pictures are told, and how often by chance.

    Args:
        drawn: Pictures, uint8 ``(n, 3, h, w)``.
        numbers: Of the emoji that they should show.
        own: The artist's pictures of all compositions.
        features: To tell bases by.
    """
    tones: dict[str, list[int]] = {}
    for number in own:
        tones.setdefault(EMOJI[number].base, []).append(number)
    query, key = features(drawn), features(stack(own, numbers))
    sums = dict.fromkeys(("tone", "tone by chance", "base", "base by chance"), 0.0)
    for i, number in enumerate(numbers):
        same_base = tones[EMOJI[number].base]
        far = (stack(own, same_base) - drawn[i].float()).flatten(1).norm(dim=1)
        sums["tone"] += same_base[int(far.argmin())] == number
        sums["tone by chance"] += 1 / len(same_base)
        same_tone = [j for j, n in enumerate(numbers) if EMOJI[n].tones == EMOJI[number].tones]
        far = (key[same_tone] - query[i]).norm(dim=1)
        sums["base"] += same_tone[int(far.argmin())] == i
        sums["base by chance"] += 1 / len(same_tone)
    return {name: round(value / len(numbers), 3) for name, value in sums.items()}


def main() -> None:
    """Draw, tell, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("figure", type=Path)
    arguments = parser.parse_args()
    data = EmojiData(styles=STYLES, skin_tones=True)
    held_out, trained = (
        [of_one_tone(part.__getitems__(list(range(len(part)))), s) for s in range(len(STYLES))]
        for part in (data.test, data.train)
    )
    new, old = (sorted(set(a) & set(b)) for a, b in (held_out, trained))
    draws = torch.randperm(len(old), generator=torch.Generator().manual_seed(0))[: len(new)]
    old = [old[i] for i in draws.sort().values.tolist()]
    model = load(arguments.run, device="cpu")
    model = model.with_sampler(Sampler(Heun(), Uniform(), 15)).guided(GUIDANCE)
    features = EfficientNetLite0Features()
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    result: dict[str, Any] = {
        "commit": commit,
        "steps": model.about.get("step"),
        "compositions": len(new),
        "guidance": GUIDANCE,
    }

    def made(numbers: list[int], style: str) -> Tensor:
        asked = {"prompt": [data.captions[n] for n in numbers], "style": style}
        return model.sample(len(numbers), cond=asked, seed=2)

    rows = []
    for s, style in enumerate(STYLES):
        own = trained[s] | held_out[s]
        drawn = made(new, style)
        result[style] = {
            "never seen": told(drawn, new, own, features),
            "seen": told(made(old, style), old, own, features),
            "by the other artist": told(stack(held_out[1 - s], new), new, own, features),
        }
        rows += [(f"{style}, drawn", drawn), ("the artist's", stack(own, new))]
    some = list(range(0, len(new), max(1, len(new) // 10)))[:10]
    captions = [data.captions[new[i]].replace(" skin tone", "") for i in some]
    draw([(name, pictures[some]) for name, pictures in rows], captions, arguments.figure)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
