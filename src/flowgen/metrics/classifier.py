"""Does a sample show its label? A classifier trained on real images answers.

The classifier sees real labelled training images only. Its accuracy on held-out images bounds what
can be read from its accuracy on samples: the two are reported together.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from flowgen.core import InputError, flatten, generator_for
from flowgen.metrics.features import check_images


@runtime_checkable
class Classifier(Protocol):
    """What is asked of a scikit-learn classifier."""

    def fit(self, X: Any, y: Any) -> Any:
        """Learn from rows ``X (n, d)`` with labels ``y (n,)``."""
        ...

    def predict(self, X: Any) -> Any:
        """Return the labels ``(n,)`` of rows ``X (n, d)``."""
        ...


@dataclass(frozen=True)
class LabelAccuracy:
    """How often a classifier of real images agrees with given labels.

    Args:
        samples: Share of samples it gives their own label, in [0, 1].
        held_out: The same on real images it has not seen.
        num_samples: How many samples.
        num_held_out: How many held-out images.
        num_training: Images it was trained on.
        classifier: What it is.
    """

    samples: float
    held_out: float
    num_samples: int
    num_held_out: int
    num_training: int
    classifier: str


class LabelClassifier:
    """A classifier of pixels, fitted to real labelled images.

    Pixels are standardised with one mean and one standard deviation for all of them. With one for
    each pixel, the faintest grey in a corner that training images leave black counts as a huge
    deviation: on scikit-learn's digits noise of 5 % of the grey range then takes the accuracy from
    99 % to 15 %, instead of leaving it at 99 %.

    Args:
        images: Training images, uint8 ``(n, c, h, w)`` with 1 or 3 channels.
        labels: Their labels, int64 ``(n,)``, at least two different ones.
        classifier: Unfitted scikit-learn classifier; None takes a support-vector machine with RBF
            kernel and scikit-learn's settings.
        max_images: Train on a random subset where there are more, >= 2: the machine's time grows
            as the square.
        seed: Of the subset, non-negative.

    Raises:
        InputError: If shapes or types are wrong, or there are less than two different labels.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "n c h w"],
        labels: Int64[Tensor, " n"],
        *,
        classifier: Classifier | None = None,
        max_images: int = 10_000,
        seed: int = 0,
    ) -> None:
        _check(images, labels)
        if max_images < 2:
            raise InputError(f"max_images must be >= 2, got {max_images}")
        if classifier is None:
            from sklearn.svm import SVC

            # A seed of its own: without one it draws from numpy's global generator.
            classifier = SVC(kernel="rbf", gamma="scale", random_state=0)
        if len(images) > max_images:
            order = torch.randperm(len(images), generator=generator_for(seed))
            images, labels = images[order[:max_images]], labels[order[:max_images]]
        if len(labels.unique()) < 2:
            raise InputError("labels must hold at least two different ones")
        pixels = images.double()
        self.num_training = len(images)
        self._shape = images.shape[1:]
        self._mean = float(pixels.mean())
        self._std = float(pixels.std()) or 1.0
        self._classifier = classifier
        classifier.fit(self._rows(images), labels.cpu().numpy())

    def predict(self, images: UInt8[Tensor, "n c h w"]) -> Int64[Tensor, " n"]:
        """Return the labels that the classifier gives ``images (n, c, h, w)``, shape ``(n,)``.

        Raises:
            InputError: If the images do not look like the training images.
        """
        check_images(images)
        if images.shape[1:] != self._shape:
            raise InputError(
                f"images must have shape (n, {', '.join(map(str, self._shape))}), "
                f"got {tuple(images.shape)}"
            )
        return torch.from_numpy(np.asarray(self._classifier.predict(self._rows(images)))).long()

    def accuracy(self, images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> float:
        """Return the share of ``images`` that get the given ``labels (n,)``, in [0, 1].

        Raises:
            InputError: If there are none, or as many labels as images are not given.
        """
        _check(images, labels)
        return float((self.predict(images) == labels.cpu()).double().mean())

    def report(
        self,
        samples: UInt8[Tensor, "n c h w"],
        sample_labels: Int64[Tensor, " n"],
        held_out: UInt8[Tensor, "m c h w"],
        held_out_labels: Int64[Tensor, " m"],
    ) -> LabelAccuracy:
        """Return the accuracy on samples beside that on held-out real images."""
        return LabelAccuracy(
            samples=self.accuracy(samples, sample_labels),
            held_out=self.accuracy(held_out, held_out_labels),
            num_samples=len(samples),
            num_held_out=len(held_out),
            num_training=self.num_training,
            classifier=self.description,
        )

    @property
    def description(self) -> str:
        """What it is, in words."""
        return f"{self._classifier!r} on standardised pixels"

    def _rows(self, images: Tensor) -> np.ndarray:
        """Return standardised pixels, float64 ``(n, d)``."""
        return ((flatten(images.cpu().double()) - self._mean) / self._std).numpy()


def _check(images: Tensor, labels: Tensor) -> None:
    check_images(images)
    if len(images) == 0 or labels.shape != images.shape[:1]:
        raise InputError(
            f"labels must be one for each of at least 1 image, got {tuple(labels.shape)} for "
            f"{len(images)} images"
        )
