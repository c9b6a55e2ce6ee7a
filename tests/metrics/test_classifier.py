import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from flowgen.core import InputError
from flowgen.metrics import Classifier, LabelClassifier


@pytest.fixture(scope="module")
def digits():
    """Scikit-learn's digits as uint8 (n, 1, 8, 8) and labels, in random order."""
    data = load_digits()
    images = torch.from_numpy(data.images / 16 * 255).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(data.target).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]


@pytest.fixture(scope="module")
def fitted(digits):
    images, labels = digits
    return LabelClassifier(images[:1000], labels[:1000])


def test_real_images_are_recognised_and_wrong_labels_are_not(fitted, digits):
    images, labels = digits[0][1000:], digits[1][1000:]
    assert fitted.accuracy(images, labels) > 0.97
    assert fitted.accuracy(images, (labels + 1) % 10) < 0.03
    assert fitted.predict(images).shape == labels.shape
    mixed = torch.cat([labels[:100], (labels[100:200] + 1) % 10])
    assert fitted.accuracy(images[:200], mixed) == pytest.approx(0.5, abs=0.03)


def test_faint_noise_in_black_corners_does_no_harm(fitted, digits):
    images, labels = digits[0][1000:], digits[1][1000:]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 13
    noisy = (images.float() + noise).clamp(0, 255).to(torch.uint8)
    assert fitted.accuracy(noisy, labels) > 0.97


def test_report_names_what_was_done(fitted, digits):
    images, labels = digits
    report = fitted.report(
        images[1000:1100], labels[1000:1100].flip(0), images[1100:], labels[1100:]
    )
    assert report.held_out == fitted.accuracy(images[1100:], labels[1100:])
    assert report.samples == fitted.accuracy(images[1000:1100], labels[1000:1100].flip(0))
    assert report.samples < 0.3 < report.held_out
    assert (report.num_samples, report.num_held_out, report.num_training) == (100, 697, 1000)
    assert "SVC" in report.classifier


def test_subset_is_seeded_and_counted(digits):
    images, labels = digits

    def predictions(seed):
        found = LabelClassifier(images, labels, max_images=60, seed=seed)
        assert found.num_training == 60
        return found.predict(images)

    assert torch.equal(predictions(0), predictions(0))
    assert not torch.equal(predictions(0), predictions(1))


def test_any_classifier_of_scikit_learn(digits):
    images, labels = digits
    neighbours = KNeighborsClassifier(1)
    assert isinstance(neighbours, Classifier)
    fitted = LabelClassifier(images, labels, classifier=neighbours)
    assert fitted.accuracy(images, labels) == 1


class Recorder:
    """A classifier that keeps what it is given and answers 1."""

    def fit(self, X, y):
        self.rows = X

    def predict(self, X):
        self.rows = X
        return np.ones(len(X), dtype=int)


def test_all_pixels_are_standardised_alike(digits):
    images, labels = digits
    recorder = Recorder()
    fitted = LabelClassifier(images, labels, classifier=recorder)
    assert recorder.rows.shape == (len(images), 64)
    assert recorder.rows.mean() == pytest.approx(0, abs=1e-12)
    assert recorder.rows.std() == pytest.approx(1, abs=1e-4)  # n - 1 against n
    pixels = images.double()
    assert (fitted.predict(images[:1] * 0) == 1).all()  # by the training images, not by its own
    np.testing.assert_allclose(recorder.rows, float(-pixels.mean() / pixels.std()))


def test_images_of_one_grey_value_are_no_accident():
    images = torch.full((4, 1, 2, 2), 7, dtype=torch.uint8)
    fitted = LabelClassifier(images, torch.tensor([0, 0, 0, 1]))
    assert fitted.predict(images[:1]).tolist() == [0]


def test_bad_input_is_refused(fitted, digits):
    images, labels = digits
    with pytest.raises(InputError, match="two different"):
        LabelClassifier(images[:5], torch.zeros(5, dtype=torch.long))
    with pytest.raises(InputError, match="max_images must be >= 2, got 1"):
        LabelClassifier(images, labels, max_images=1)
    with pytest.raises(InputError, match="at least 1 image"):
        fitted.accuracy(images[:0], labels[:0])
    with pytest.raises(InputError, match=r"\(n, 1, 8, 8\), got \(1, 3, 8, 8\)"):
        fitted.predict(images[:1].expand(-1, 3, -1, -1))
