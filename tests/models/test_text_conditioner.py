"""Text and several conditions: what is taken, asked for, emptied and dropped."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch

from flowgen.core import InputError
from flowgen.models import (
    Conditioner,
    Conditioners,
    Guided,
    HashedWords,
    LabelConditioner,
    TextConditioner,
    asked_for,
)

CAPTIONS = ["red heart", "blue car", "a red car with a very long name"]


def text(**settings):
    return TextConditioner(HashedWords(8), length=4, **settings)


def several(**settings):
    parts = {
        "label": LabelConditioner(3, dropout=0.2, names=["a", "b", "c"]),
        "style": LabelConditioner(2, dropout=0.3, kind="style"),
        "prompt": text(dropout=0.4),
    }
    return Conditioners(parts, **settings)


def test_words_are_the_same_everywhere_and_unlike_each_other():
    script = (
        "from flowgen.models import HashedWords;"
        "s, m = HashedWords(8)(['red heart'], 4); print(s.flatten().tolist(), m.tolist())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    states, mask = HashedWords(8)(["red heart"], 4)
    assert runs == {f"{states.flatten().tolist()} {mask.tolist()}\n"}


def test_spelling_makes_words_alike_and_order_counts():
    encode = HashedWords(256)
    states, mask = encode(["hearts", "heart", "wrench", "red car", "car red"], 3)
    hearts, heart, wrench = states[:3, 1]
    cosine = torch.nn.functional.cosine_similarity
    # Of 256 random numbers each: unlike words within four standard deviations of 0.
    assert cosine(hearts, heart, dim=0) > 0.4
    assert abs(cosine(hearts, wrench, dim=0)) < 0.4
    assert mask.sum(1).tolist() == [2, 2, 2, 3, 3]
    assert not torch.equal(states[3, 1], states[4, 2])
    assert states[0, 2].abs().max() == 0


def test_vectors_have_unit_variance():
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), (300, 7))
    states, _ = HashedWords(64)(["".join(word) for word in letters], 2)
    # 19200 nearly independent numbers; the waves of the place have variance 1/8.
    assert states[:, 1].var(dim=0).mean() == pytest.approx(1.0, abs=0.05)
    assert states[:, 1].square().mean() == pytest.approx(1 + 1 / 8, abs=0.05)


def test_long_texts_are_cut_and_none_is_one_token():
    states, mask = HashedWords(8)(["one two three four five", ""], 3)
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert states[1, 1:].abs().max() == 0


def test_captions_are_taken_by_their_numbers():
    conditioner = text()
    conditioner.use(CAPTIONS)
    taken = conditioner.take({"caption": torch.tensor([2, 0, 2])})
    states, mask = HashedWords(8)([CAPTIONS[i] for i in (2, 0, 2)], 4)
    assert torch.equal(taken["text"], states)
    assert torch.equal(taken["text_mask"], mask)
    with pytest.raises(InputError, match="call use"):
        text().take({"caption": torch.tensor([0])})
    with pytest.raises(InputError, match="no captions"):
        text().use(None)


class Counted(HashedWords):
    """Notes how often it is asked for no text alone."""

    def __init__(self):
        super().__init__(8)
        self.empty = 0

    def __call__(self, texts, length):
        self.empty += list(texts) == [""]
        return super().__call__(texts, length)


class Learnt(torch.nn.Module):
    """An encoder with weights, which move if they want gradients."""

    width = 8

    def __init__(self, learns):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(8), requires_grad=learns)

    def forward(self, texts, length):
        states, mask = HashedWords(8)(texts, length)
        return states * self.weight, mask


def test_no_text_is_encoded_once_for_all_steps_and_is_what_the_encoder_makes(generator):
    several_kinds = Conditioners({"prompt": TextConditioner(Counted(), length=4, dropout=0.5)})
    encoder = several_kinds.parts["prompt"].encoder
    several_kinds.use(CAPTIONS)
    taken = several_kinds.take({"caption": torch.tensor([0, 1, 2] * 4)})
    encoder.empty = 0
    dropped = [several_kinds.drop(taken, generator=generator) for _ in range(3)]
    assert encoder.empty == 1
    guided = Guided(_Mean(), 3.0, several_kinds.null)
    x, t = torch.ones(12, 2), torch.full((12,), 0.5)
    found = [guided(x, t, taken) for _ in range(2)]
    assert encoder.empty == 1
    # Bit by bit what a conditioner without memory gives.
    states, mask = HashedWords(8)([""], 4)
    null = several_kinds.null(1)
    assert torch.equal(null["text"], states)
    assert torch.equal(null["text_mask"], mask)
    before = torch.Generator().manual_seed(0)
    for one in dropped:
        fresh = Conditioners({"prompt": text(dropout=0.5)})
        want = fresh.drop(taken, generator=before)
        assert all(torch.equal(one[name], want[name]) for name in want)
    want = Guided(_Mean(), 3.0, Conditioners({"prompt": text()}).null)(x, t, taken)
    assert all(torch.equal(one, want) for one in found)


class _Mean(torch.nn.Module):
    def forward(self, x, t, cond):
        return x * cond["text"].mean(dim=(1, 2))[:, None]


def test_of_an_encoder_that_learns_no_text_is_made_anew():
    for learns in (True, False):
        conditioner = TextConditioner(Learnt(learns), length=4)
        first = conditioner.null(1)["text"]
        assert first.requires_grad == learns
        with torch.no_grad():
            conditioner.encoder.weight.mul_(2)
        assert torch.equal(conditioner.null(1)["text"], first * (2 if learns else 1))


def test_what_is_kept_of_no_text_follows_encoder_length_and_copies():
    conditioner = TextConditioner(Counted(), length=4)
    with torch.inference_mode():
        conditioner.null(2)
    # What evaluation asked for first serves training too.
    assert not conditioner.null(2)["text"].is_inference()
    copied = copy.deepcopy(conditioner)
    assert torch.equal(copied.null(2)["text"], conditioner.null(2)["text"])
    assert copied.encoder.empty == conditioner.encoder.empty == 1
    copied.length = 6
    assert copied.null(2)["text"].shape == (2, 6, 8)
    copied.encoder = HashedWords(8, seed=1)
    assert torch.equal(copied.null(1)["text"], copied.encoder([""], 6)[0])


def test_nothing_of_a_trace_is_kept(monkeypatch):
    conditioner = TextConditioner(Counted(), length=4)
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        with torch._subclasses.FakeTensorMode():
            conditioner.null(2)
    assert type(conditioner.null(2)["text"]) is torch.Tensor


def test_few_captions_are_kept_where_their_numbers_are(monkeypatch):
    conditioner = text()
    conditioner.use(CAPTIONS)
    far = torch.device("meta")
    near, _ = conditioner._captions(far)
    assert near.device == far
    assert conditioner._captions(far)[0] is near
    assert conditioner._captions(torch.device("cpu"))[0].device.type == "cpu"
    conditioner.use(CAPTIONS[:1])
    assert conditioner._captions(far)[0].shape == (1, 4, 8)
    # Too many of them stay in main memory.
    monkeypatch.setattr("flowgen.models.text_conditioner._NEAR", 1 * 4 * 8 * 4 - 1)
    assert conditioner._captions(far)[0].device.type == "cpu"


def test_prompts_in_turn_by_global_number():
    conditioner = text()
    rows = conditioner.rows({"prompt": CAPTIONS[:2]}, range(3, 6))
    states, _ = HashedWords(8)([CAPTIONS[1], CAPTIONS[0], CAPTIONS[1]], 4)
    assert torch.equal(rows["text"], states)
    null = conditioner.null(2)
    assert torch.equal(conditioner.rows({}, range(2))["text"], null["text"])
    assert null["text"].shape == (2, 4, 8)
    with pytest.raises(InputError, match="a prompt must be text, got 3"):
        conditioner.rows({"prompt": [3]}, range(1))


def test_both_kinds_and_several_are_conditioners():
    for one in (text(), LabelConditioner(2), several()):
        assert isinstance(one, Conditioner)
    assert several().kinds == ("label", "style", "prompt")


def test_what_is_not_asked_for_is_empty_and_nothing_takes_turns():
    conditioner = several()
    rows = conditioner.rows({"prompt": ["red heart"]}, range(2))
    assert rows["label"].tolist() == [3, 3]
    assert rows["style"].tolist() == [2, 2]
    turns = conditioner.rows({}, range(4))
    assert turns["label"].tolist() == [0, 1, 2, 0]
    assert turns["style"].tolist() == [0, 1, 0, 1]
    assert torch.equal(turns["text"], conditioner.null(4)["text"])


def test_examples_keep_conditions_together():
    examples = [
        {"label": 2, "style": 0, "prompt": "red heart"},
        {"label": 0, "style": 1, "prompt": "blue car"},
    ]
    conditioner = several(examples=examples)
    rows = conditioner.rows({}, range(1, 4))
    assert rows["label"].tolist() == [0, 2, 0]
    assert rows["style"].tolist() == [1, 0, 1]
    states, _ = HashedWords(8)(["blue car", "red heart", "blue car"], 4)
    assert torch.equal(rows["text"], states)
    with pytest.raises(InputError, match="an example has an entry for each"):
        several(examples=[{"label": 2}])


def test_dropping_acts_on_each_condition_and_row_alone(generator):
    n = 20_000
    conditioner = several(dropout=0.1)
    conditioner.use(CAPTIONS)
    batch = {
        "label": torch.zeros(n, dtype=torch.int64),
        "style": torch.ones(n, dtype=torch.int64),
        "caption": torch.zeros(n, dtype=torch.int64),
    }
    given = conditioner.take(batch)
    kept = conditioner.drop(given | {"other": torch.arange(n)}, generator=generator)
    null = conditioner.null(1)
    empty = {
        "label": kept["label"] == 3,
        "style": kept["style"] == 2,
        "prompt": (kept["text"] == null["text"]).all(dim=(1, 2)),
    }
    assert torch.equal(kept["other"], torch.arange(n))
    assert (kept["text_mask"] == null["text_mask"])[empty["prompt"]].all()
    together = torch.stack(list(empty.values())).all(dim=0)

    def close(found, expected):
        # Five standard errors of a mean of Bernoulli draws.
        assert abs(float(found.double().mean()) - expected) < 5 * (expected / n) ** 0.5

    for name, own in (("label", 0.2), ("style", 0.3), ("prompt", 0.4)):
        close(empty[name], 1 - 0.9 * (1 - own))
    close(together, 0.1 + 0.9 * 0.2 * 0.3 * 0.4)


def test_what_is_asked_for_is_checked():
    kinds = ("label", "prompt")
    assert asked_for({"label": torch.tensor([1, 2]), "prompt": None}, kinds, 3) == {"label": [1, 2]}
    assert asked_for({"prompt": "red"}, kinds, 1) == {"prompt": ["red"]}
    with pytest.raises(InputError, match="takes no prompts='a': did you mean 'prompt'"):
        asked_for({"prompts": "a"}, kinds, 1)
    for wrong in ([], ["a", "b"]):
        with pytest.raises(InputError, match="prompts for 1 samples"):
            asked_for({"prompt": wrong}, kinds, 1)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Conditioners({}), "one part at least"),
        (lambda: Conditioners({"style": LabelConditioner(2)}), "'style' is made by one for"),
        (lambda: Conditioners({"label": LabelConditioner(2)}, dropout=1.0), "dropout must lie"),
        (lambda: TextConditioner(HashedWords(8), length=0), "length must be a positive"),
        (lambda: HashedWords(0), "width must be a positive"),
    ],
)
def test_bad_arguments(make, rule):
    with pytest.raises(InputError, match=rule):
        make()
