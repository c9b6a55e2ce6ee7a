"""Pictures of captions that a model of emoji never saw: looked at, and told by numbers.

    python benchmarks/text_to_emoji.py RUN FIGURE.png > benchmarks/results/text_to_emoji.json

RUN is a model of `flowgen train experiment=emoji data.skin_tones=true`. For every held-out caption
and style one picture is drawn (Heun's method, 15 steps, guidance 2.5) and looked for among all
held-out pictures of that style by the distance of EfficientNet-Lite0 features: how often the
caption's own picture is nearest, or among the five nearest. For comparison the other artist's
picture of the caption takes the place of the drawn one, and a random picture. Kernel distances to
the held-out pictures are for each category. Then the compositions of a base and a skin tone that
were never seen together: of the drawn one, its tone is that of the artist's picture of the same
base, in all tones, that is nearest by its pixels; its base is that of the nearest among the
held-out compositions of that tone by its features. The same of as many compositions that were in
training, and of the other artist's pictures. The figure shows for the first held-out caption of
each category both styles, and the artist's own below, and then some compositions.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowgen.data import EmojiData
from flowgen.data.emoji_list import list_emoji
from flowgen.integrators import Heun, Sampler, Uniform
from flowgen.metrics import EfficientNetLite0Features, kernel_distance
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


def composed(
    drawn: Tensor, numbers: list[int], own: dict[int, Tensor], features: EfficientNetLite0Features
) -> dict[str, float]:
    """Return how often tone and base of drawn compositions are told, and by chance.

    Args:
        drawn: Pictures, uint8 ``(n, 3, h, w)``.
        numbers: Of the emoji that they should show.
        own: The artist's pictures by number, of all compositions.
        features: To tell bases by.
    """
    emoji = list_emoji()
    tones: dict[str, list[int]] = {}
    for number in own:
        tones.setdefault(emoji[number].base, []).append(number)
    tone_right, tone_chance = [], []
    for picture, number in zip(drawn.float(), numbers, strict=True):
        among = tones[emoji[number].base]
        far = (torch.stack([own[i] for i in among]) - picture).flatten(1).norm(dim=1)
        tone_right.append(among[int(far.argmin())] == number)
        tone_chance.append(1 / len(among))
    query = features(drawn)
    key = features(torch.stack([own[i] for i in numbers]))
    base_right, base_chance = [], []
    for i, number in enumerate(numbers):
        rows = [j for j, other in enumerate(numbers) if emoji[other].tones == emoji[number].tones]
        far = (key[rows] - query[i]).norm(dim=1)
        base_right.append(rows[int(far.argmin())] == i)
        base_chance.append(1 / len(rows))
    figures = {
        "tone": tone_right,
        "tone by chance": tone_chance,
        "base": base_right,
        "base by chance": base_chance,
    }
    return {name: round(sum(each) / len(each), 3) for name, each in figures.items()}


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


def by_number(batch: dict[str, Tensor], style: int) -> dict[int, int]:
    """Return the row of each emoji in a style."""
    rows = (batch["style"] == style).nonzero().flatten().tolist()
    return {int(batch["caption"][i]): i for i in rows}


def _stack(pictures: dict[int, Tensor], numbers: list[int]) -> Tensor:
    return torch.stack([pictures[number] for number in numbers])


def main() -> None:
    """Draw, look for, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("figure", type=Path)
    parser.add_argument("--compositions", type=Path, help="their figure; beside the first")
    arguments = parser.parse_args()
    data = EmojiData(styles=STYLES, skin_tones=True)
    emoji = list_emoji()
    batch = data.test.__getitems__(list(range(len(data.test))))
    pictures = [by_number(batch, s) for s in range(len(STYLES))]
    known = data.train.__getitems__(list(range(len(data.train))))
    trained = [by_number(known, s) for s in range(len(STYLES))]
    common = sorted(set(pictures[0]) & set(pictures[1]))
    both = [number for number in common if not emoji[number].tones]
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
        distances = {}
        for i, name in enumerate(data.label_names or ()):
            rows = (label == i).nonzero().flatten()
            if len(rows) >= 10:
                a, b = query[s][rows], key[s][rows]
                near = kernel_distance(a, b, subset_size=len(rows), num_subsets=1)
                distances[name] = {"captions": len(rows), "kd": round(near.mean, 3)}
        result[style] = {
            "found by the drawn picture": found(query[s], key[s]),
            "by the other artist's": found(key[1 - s], key[s]),
            "by a random one": found(key[s][chance], key[s]),
            "kernel distance by category": distances,
        }
    # One tone each: of couples with two, most compositions are not in training.
    new = [number for number in common if len(emoji[number].tones) == 1]
    old = [n for n in sorted(set(trained[0]) & set(trained[1])) if len(emoji[n].tones) == 1]
    draws = torch.randperm(len(old), generator=torch.Generator().manual_seed(0))[: len(new)]
    old = [old[i] for i in draws.sort().values.tolist()]
    result["compositions"] = len(new)
    shown = []
    for s, style in enumerate(STYLES):
        own_ = {n: known["x_1"][i] for n, i in trained[s].items() if len(emoji[n].tones) == 1}
        own_ |= {n: batch["x_1"][i] for n, i in pictures[s].items() if len(emoji[n].tones) == 1}
        for name, numbers in (("never seen", new), ("seen", old)):
            asked = [data.captions[n] for n in numbers]
            made = own.sample(len(asked), cond={"prompt": asked, "style": style}, seed=2)
            result[style][f"compositions {name}"] = composed(made, numbers, own_, features)
            if numbers is new:
                shown += [(f"{style}, drawn", made), ("the artist's", _stack(own_, new))]
    for s, style in enumerate(STYLES):
        other, its = shown[2 * (1 - s) + 1][1], dict(zip(new, shown[2 * s + 1][1], strict=True))
        its |= {n: known["x_1"][i] for n, i in trained[s].items() if len(emoji[n].tones) == 1}
        result[style]["compositions by the other artist"] = composed(other, new, its, features)
    first = [int((label == i).nonzero()[0]) for i in label.unique().tolist()]
    rows = []
    for s, style in enumerate(STYLES):
        rows += [(f"{style}, drawn", drawn[s][first]), ("the artist's", real[s][first])]
    draw(rows, [captions[i] for i in first], arguments.figure)
    some = list(range(0, len(new), max(1, len(new) // 10)))[:10]
    draw(
        [(name, pictures_[some]) for name, pictures_ in shown],
        [data.captions[new[i]].replace(" skin tone", "") for i in some],
        arguments.compositions
        or arguments.figure.with_stem(f"{arguments.figure.stem}_compositions"),
    )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
