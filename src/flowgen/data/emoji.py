"""Emoji in colour: captioned, categorised, in the styles of several artists, aligned by meaning.

The same code points drawn by another artist are a true pair, which maps between styles can be
scored with. Held out are whole captions, in all styles; with skin tones also compositions of a base
and a tone that are both seen in training, but never together.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from flowgen.core import InputError, generator_for
from flowgen.data.arrays import ImageData
from flowgen.data.emoji_list import Emoji, list_emoji
from flowgen.data.emoji_pictures import artist
from flowgen.data.splits import check_holdout

STYLES = ("twemoji", "openmoji", "noto")


class EmojiData(ImageData):
    """Pictures of emoji with captions, categories as labels, and styles.

    Args:
        size: Side of the pictures in pixels, at least 8.
        styles: Artists: ``twemoji``, ``openmoji``, ``noto``.
        skin_tones: Also the variants with skin tones: half as many pictures again, all of people.
        holdout: Share of the captions that is held out, in (0, 1), of each category.
        seed: Of the split, non-negative.

    Attributes:
        captions: What pictures show; batches name captions by their numbers, ``caption (b,)``.
        classes: Names of other classes than labels: ``style``, where there are several.

    Raises:
        InputError: If an argument is out of range, or a package or font is missing.
    """

    def __init__(
        self,
        size: int = 32,
        styles: Sequence[str] = ("twemoji",),
        skin_tones: bool = False,
        holdout: float = 0.1,
        seed: int = 0,
    ) -> None:
        check_holdout(holdout, seed)
        if size < 8:
            raise InputError(f"size must be at least 8 pixels, got {size}")
        if not styles or len(set(styles)) != len(styles):
            raise InputError(f"styles must be different ones of {', '.join(STYLES)}, got {styles}")
        draws = [artist(style) for style in styles]
        shown = [emoji for emoji in list_emoji() if skin_tones or not emoji.tones]
        images: list[np.ndarray] = []
        rows: list[tuple[int, int]] = []
        for style, draw in enumerate(draws):
            seen = set()
            for number, emoji in enumerate(shown):
                picture = draw(emoji)
                if picture is None:
                    continue
                small = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
                # Some code points have one picture, e.g. flags of dependent territories.
                if (key := small.tobytes()) not in seen:
                    seen.add(key)
                    images.append(small)
                    rows.append((style, number))
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        style, number = torch.tensor(rows).T
        names = sorted({emoji.category for emoji in shown})
        label = torch.tensor([names.index(shown[i].category) for i in number.tolist()])
        out = torch.tensor(_held_out(shown, holdout, seed))[number]
        others = {"caption": number}
        self.classes: dict[str, tuple[str, ...]] = {}
        if len(styles) > 1:
            others["style"] = style
            self.classes["style"] = tuple(styles)
        self.captions = tuple(emoji.caption for emoji in shown)
        super().__init__(
            "emoji",
            x[~out],
            x[out],
            train_labels=label[~out],
            test_labels=label[out],
            label_names=names,
            train_others={name: value[~out] for name, value in others.items()},
            test_others={name: value[out] for name, value in others.items()},
        )


def _held_out(shown: Sequence[Emoji], holdout: float, seed: int) -> list[bool]:
    """Return which emoji are held out: of each category, and one tone of each base with tones."""
    generator = generator_for(seed)
    out = [False] * len(shown)

    def draw(places: list[int], count: int) -> None:
        for i in torch.randperm(len(places), generator=generator)[:count].tolist():
            out[places[i]] = True

    groups: dict[str, list[int]] = {}
    bases: dict[str, list[int]] = {}
    for i, emoji in enumerate(shown):
        if emoji.tones:
            bases.setdefault(emoji.base, []).append(i)
        else:
            groups.setdefault(emoji.category, []).append(i)
    for category in sorted(groups):
        draw(groups[category], max(1, round(holdout * len(groups[category]))))
    for base in sorted(bases):
        if len(bases[base]) > 1:
            draw(bases[base], 1)
    # A base whose plain form is held out stays in training with its other tones.
    return out
