"""Emoji: what is in them, what is held out, and that artists are aligned."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.data import DataSet, EmojiData
from flowgen.data.emoji_list import TONES, list_emoji
from flowgen.data.emoji_pictures import artist


@pytest.fixture(scope="module", name="every")
def _every():
    return list_emoji()


@pytest.fixture(scope="module", name="data")
def _data():
    return EmojiData(size=16)


def rows(split):
    return split.__getitems__(list(range(len(split))))


def test_the_list_has_names_categories_and_tones(every):
    by_points = {emoji.points: emoji for emoji in every}
    assert len(by_points) == len(every) > 3800
    heart = by_points["2764"]
    assert (heart.caption, heart.category, heart.tones) == ("red heart", "Smileys & Emotion", ())
    cook = by_points["1f468-1f3fd-200d-1f373"]
    assert (cook.caption, cook.tones) == ("man cook medium skin tone", (2,))
    assert cook.base == "1f468-200d-1f373"
    assert cook.category == by_points[cook.base].category
    pair = by_points["1f9d1-1f3fb-200d-1f91d-200d-1f9d1-1f3ff"]
    assert pair.tones == (0, 4)
    assert sum(bool(emoji.tones) for emoji in every) > 1500


def test_it_is_a_data_set_of_captioned_pictures(data):
    assert isinstance(data, DataSet)
    assert data.shape == (3, 16, 16)
    assert len(data.train) + len(data.test) > 1600
    assert data.classes == {}
    batch = rows(data.test)
    assert batch["x_1"].dtype == torch.uint8
    number = {data.captions[i]: row for row, i in enumerate(rows(data.train)["caption"].tolist())}
    batch = rows(data.train)
    flag = number["Japan"]
    assert data.label_names[int(batch["label"][flag])] == "Flags"
    # A red disc on white.
    middle = batch["x_1"][flag][:, 7:9, 7:9].float().mean(dim=(1, 2))
    assert middle[0] > middle[1] + 80
    assert middle[0] > middle[2] + 80


def test_whole_captions_of_every_category_are_held_out(data):
    train, test = rows(data.train), rows(data.test)
    assert not set(train["caption"].tolist()) & set(test["caption"].tolist())
    for label in range(data.num_classes):
        held = int((test["label"] == label).sum())
        share = held / (held + int((train["label"] == label).sum()))
        assert 0.03 < share < 0.2


def test_the_split_follows_its_seed(data):
    again, other = EmojiData(size=16), EmojiData(size=16, seed=1)
    assert torch.equal(rows(again.test)["x_1"], rows(data.test)["x_1"])
    assert not torch.equal(rows(other.test)["caption"], rows(data.test)["caption"])


def test_no_picture_is_there_twice(data):
    every = torch.cat([rows(data.train)["x_1"], rows(data.test)["x_1"]]).flatten(1)
    assert len(torch.unique(every, dim=0)) == len(every)


@pytest.fixture(scope="module", name="styled")
def _styled():
    return EmojiData(size=8, styles=("twemoji", "openmoji"), skin_tones=True)


def test_compositions_are_held_out_in_all_styles(styled, every):
    shown = every
    train, test = rows(styled.train), rows(styled.test)
    seen = {(shown[i].base, shown[i].tones) for i in train["caption"].tolist()}
    held = {(shown[i].base, shown[i].tones) for i in test["caption"].tolist() if shown[i].tones}
    assert not seen & held
    bases, tones = {base for base, _ in seen}, {own for _, own in seen}
    known = [(base, own) for base, own in held if base in bases and own in tones]
    # Both parts of nearly every composition are known, and the composition is not.
    assert len(held) > 200
    assert len(known) > 0.95 * len(held)
    assert len(TONES) == 5


def test_styles_are_aligned_by_meaning(styled):
    batch = rows(styled.train)
    assert styled.classes == {"style": ("twemoji", "openmoji")}
    by_style = [
        dict(zip(batch["caption"][own].tolist(), batch["x_1"][own].float(), strict=True))
        for own in (batch["style"] == 0, batch["style"] == 1)
    ]
    common = sorted(set(by_style[0]) & set(by_style[1]))
    assert len(common) > 1000
    a, b = (torch.stack([one[i] for i in common]) for one in by_style)
    order = torch.randperm(len(common), generator=torch.Generator().manual_seed(0))
    gain = ((a - b[order]).square() - (a - b).square()).flatten(1).mean(dim=1)
    # Pictures of one meaning are nearer than others, by many standard errors of the mean.
    assert gain.mean() > 10 * gain.std() / len(gain) ** 0.5


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"styles": ["emojione"]}, "style must be one of twemoji, openmoji, noto, got 'emojione'"),
        ({"styles": []}, "styles must be different ones"),
        ({"styles": ["twemoji", "twemoji"]}, "styles must be different ones"),
        ({"size": 4}, "size must be at least 8"),
        ({"holdout": 1.0}, "holdout"),
    ],
)
def test_bad_arguments(settings, rule):
    with pytest.raises(InputError, match=rule):
        EmojiData(**settings)


def test_a_missing_font_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("flowgen.data.emoji_pictures.NOTO", tmp_path / "none.ttf")
    with pytest.raises(InputError, match="fonts-noto-color-emoji"):
        artist("noto")
