"""Latents are those of the autoencoder, normalised over the data, and of no other."""

import json

import pytest
import torch
from PIL import Image

from flowgen.core import InputError
from flowgen.data import (
    Digits,
    ImageData,
    ImageFolder,
    LatentCodec,
    LatentData,
    built,
    learnt_from,
    read_autoencoder,
    write_latents,
)
from flowgen.data.autoencoder import digest_of
from flowgen.pipeline import atomic
from flowgen.pipeline.build import build
from flowgen.training import small_autoencoder

IMAGES = {"_target_": "flowgen.data.Digits"}


@pytest.fixture(name="autoencoder", scope="module")
def _autoencoder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("autoencoder")
    network = built(small_autoencoder((1, 8, 8), channels=[16, 16], latent_channels=3))
    network.save_pretrained(folder)
    return folder


@pytest.fixture(name="folder")
def _folder(autoencoder, tmp_path):
    counted = []
    write_latents(
        tmp_path / "latents",
        Digits(),
        IMAGES,
        str(autoencoder),
        atomic=atomic,
        told=counted.append,
    )
    assert sum(counted) == len(Digits().train)
    return tmp_path / "latents"


def test_training_latents_are_draws_of_the_autoencoders_distribution(folder, autoencoder):
    data = LatentData(folder, Digits())
    network, _ = read_autoencoder(autoencoder)
    x = data.train.__getitems__([5, 9])["x_1"]
    with torch.no_grad():
        want = network.encode(x / 127.5 - 1).latent_dist
    rows = [5] * 2000 + [9] * 2000
    batch = learnt_from(data).__getitems__(rows)
    assert batch["label"].tolist() == data.train.__getitems__(rows)["label"].tolist()
    for place, mean, std in zip((0, 2000), want.mean, want.std, strict=True):
        drawn = batch["x_1"][place : place + 2000]
        # Five standard errors, and the rounding to half precision.
        slack = 5 * std / 2000**0.5 + 1e-3 * mean.abs()
        assert ((drawn.mean(dim=0) - mean).abs() < slack).all()
        assert ((drawn.std(dim=0) / std - 1).abs() < 5 / 4000**0.5 + 1e-3).all()


def test_draws_follow_the_seed_of_the_batch(folder):
    split = LatentData(folder, Digits()).encoded
    found = []
    for entropy in ((1, 2, 0), (1, 3, 0), (1, 2, 0)):
        split.seed_augmentation(*entropy)
        found.append(split.__getitems__([0, 1])["x_1"])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_latents_have_mean_zero_and_unit_scale_over_the_data(folder):
    data = LatentData(folder, Digits())
    rows = list(range(len(data.train)))
    z = data.codec.encode(learnt_from(data).__getitems__(rows)["x_1"])
    assert z.mean(dim=(0, 2, 3)).abs().max() < 0.03
    assert (z.std(dim=(0, 2, 3)) - 1).abs().max() < 0.03


def test_the_codec_decodes_as_the_autoencoder_does(folder, autoencoder):
    data = LatentData(folder, Digits())
    network, _ = read_autoencoder(autoencoder)
    x = data.test.__getitems__(list(range(70)))["x_1"]
    z = data.codec.encode(x)
    assert z.shape[1:] == data.codec.encoded_shape(data.shape) == (3, 4, 4)
    with torch.no_grad():
        want = network.decode(network.encode(x / 127.5 - 1).latent_dist.mean).sample
    want = ((want.clamp(-1, 1) + 1) * 127.5).round()
    found = data.codec.decode(z)
    assert found.dtype == torch.uint8
    assert (found.float() - want).abs().max() <= 1


def test_a_config_builds_the_codec_and_training_leaves_it_alone(folder):
    codec = LatentData(folder, Digits()).codec
    again = build(json.loads(json.dumps(codec.to_config())))
    assert isinstance(again, LatentCodec)
    assert again.to_config() == codec.to_config()
    again.load_state_dict(codec.state_dict())
    z = torch.randn(2, 3, 4, 4)
    assert torch.equal(again.decode(z), codec.decode(z))
    again.train()
    assert not any(m.training for m in again.modules())
    assert not any(p.requires_grad for p in again.parameters())


def test_other_images_and_other_autoencoders_are_refused(folder, autoencoder):
    for images, part in (
        (Digits(holdout=0.3), "1258 training images, not 1438"),
        (Digits(seed=1), "their pixels differ"),
    ):
        with pytest.raises(InputError, match=part):
            LatentData(folder, images)
    network, settings = read_autoencoder(autoencoder)
    before = digest_of(settings, network)
    with torch.no_grad():
        next(network.parameters()).add_(1e-3)
    assert digest_of(settings, network) != before
    network.save_pretrained(folder / "autoencoder")
    with pytest.raises(InputError, match="not the one that made the latents"):
        LatentData(folder, Digits())


def test_other_captions_and_names_than_those_encoded_are_refused(autoencoder, tmp_path):
    words = ["a hat", "a dog", "a hat", "a dog", "a cow", "a hat", "a dog", "a cow"]

    def images(texts, names="ab", classes=("x", "y")):
        for i, text in enumerate(texts):
            file = tmp_path / "images" / names[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 20 * i).save(file)
            file.with_suffix(".txt").write_text(text)
        found = ImageFolder(tmp_path / "images", size=8, channels=1)
        found.classes = {"style": classes}
        return found

    folder = tmp_path / "latents"
    write_latents(folder, images(words), {}, str(autoencoder), atomic=atomic)
    LatentData(folder, images(words))
    header = json.loads((folder / "latents.json").read_text())
    older = {name: value for name, value in header.items() if name != "words"}
    # Which images are for training does not depend on their words. 0, 2, 4, 6 are of one class.
    encoded = LatentData(folder, images(words)).encoded.others["caption"].tolist()
    told = list(dict.fromkeys(words[0::2] + words[1::2]))
    assert len(set(encoded)) == len(told) == 3
    shifted = ["new", *words[1:]]
    moved = [*words[:5], "a cow", "a dog", "a hat"]
    assert list(dict.fromkeys(moved[0::2] + moved[1::2])) == told
    fixed = [text.replace("cow", "bull") for text in words]
    for texts, entry, part in (
        (shifted, header, "their captions differ; encode them again by flowgen encode"),
        (shifted, older, "their numbers of caption differ; encode them again"),
        (moved, header, "their numbers of caption differ; encode them again"),
        (moved, older, "their numbers of caption differ; encode them again"),
        (fixed, header, "their captions differ; encode"),
    ):
        (folder / "latents.json").write_text(json.dumps(entry))
        with pytest.raises(InputError, match=part):
            LatentData(folder, images(texts))
    # Numbers of all images are the same, so each has its own caption, if by another word.
    (folder / "latents.json").write_text(json.dumps(older))
    assert LatentData(folder, images(fixed)).captions == tuple(
        text.replace("cow", "bull") for text in told
    )
    (folder / "latents.json").write_text(json.dumps(header))
    with pytest.raises(InputError, match="their names of classes differ"):
        LatentData(folder, images(words, classes=("y", "x")))
    for label in ("a", "b"):
        (tmp_path / "images" / label).rename(tmp_path / "images" / f"z{label}")
    with pytest.raises(InputError, match="their names of labels differ"):
        LatentData(folder, images(words, names=("za", "zb")))
    for texts in (tmp_path / "images").rglob("*.txt"):
        texts.unlink()
    (folder / "latents.json").write_text(json.dumps(older))
    with pytest.raises(InputError, match="their numbers of caption differ"):
        LatentData(folder, ImageFolder(tmp_path / "images", size=8, channels=1))


def test_damage_is_told_in_one_line(folder, autoencoder, tmp_path):
    header = folder / "latents.json"
    whole = header.read_text()
    for text, part in (
        (whole.replace('"format": 1', '"format": 9'), "format 9"),
        ("{", "damaged"),
        ("{}", "damaged"),
        (json.dumps(json.loads(whole) | {"words": "none"}), "damaged"),
    ):
        header.write_text(text)
        with pytest.raises(InputError, match=part):
            LatentData(folder, Digits())
    header.write_text(whole)
    (folder / "autoencoder").rename(folder / "away")
    with pytest.raises(InputError, match="has lost its autoencoder"):
        LatentData(folder, Digits())
    (folder / "away").rename(folder / "autoencoder")
    (folder / "train.safetensors").write_bytes(b"none")
    with pytest.raises(InputError, match="missing or damaged"):
        LatentData(folder, Digits())
    with pytest.raises(InputError, match="make latents by flowgen encode"):
        LatentData(tmp_path, Digits())
    with pytest.raises(InputError, match="no autoencoder of diffusers at"):
        read_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(InputError, match="holds a UNet2DModel"):
        read_autoencoder(tmp_path)
    colour = ImageData("colour", *torch.zeros(2, 4, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"cannot encode images \(3, 8, 8\)"):
        write_latents(tmp_path / "out", colour, {}, str(autoencoder), atomic=atomic)
    assert not (tmp_path / "out").exists()
    flipped = ImageData(
        "flipped", *torch.randint(0, 256, (2, 4, 1, 8, 8), dtype=torch.uint8), flip=True
    )
    with pytest.raises(InputError, match="augmented"):
        write_latents(tmp_path / "out", flipped, {}, str(autoencoder), atomic=atomic)


def test_a_codec_refuses_what_is_neither_image_nor_latent(folder):
    codec = LatentData(folder, Digits()).codec
    for x in (torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(InputError, match="uint8 images"):
            codec.encode(x)
    with pytest.raises(InputError, match="the latents are of images"):
        codec.encoded_shape((1, 28, 28))
    config = codec.to_config()
    for change, part in (
        ({"std": [1.0, 0.0, 1.0]}, "std > 0"),
        ({"mean": [1.0]}, "3 numbers"),
        ({"autoencoder": {"_class_name": "FluxPipeline"}}, "must be one of"),
        ({"image_shape": [8, 8]}, r"\(c, h, w\)"),
    ):
        with pytest.raises(InputError, match=part):
            build({**config, **change})
