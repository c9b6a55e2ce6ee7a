"""Measure: whether samples show the label they were drawn with."""

import torch
from torch import Tensor

from flowgen.evaluation.measure import Figures, Running
from flowgen.evaluation.setting import Drawn, Setting
from flowgen.metrics import LabelClassifier

MAX_REFERENCE = 5000
"""Most held-out images that the classifier is tried on."""


class LabelAgreement:
    """How often a classifier of real images sees the label a sample was drawn with."""

    name = "labels"
    needs_samples = True

    def unfit(self, setting: Setting) -> str:
        """Return why it cannot be measured here, empty if it can."""
        if not setting.images:
            return "the data are not images"
        return "" if setting.labelled else "the model takes no labels"

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work, the classifier fitted."""
        classifier, held_out = setting.remembered("classifier", lambda: _fitted(setting))
        return _Running(classifier, held_out, setting)


def _fitted(setting: Setting) -> tuple[LabelClassifier, float]:
    training = setting.real(setting.data.train, len(setting.data.train))
    held_out = setting.real(setting.data.test, MAX_REFERENCE)
    classifier = LabelClassifier(training["x_1"], training["label"], seed=setting.seed)
    return classifier, classifier.accuracy(held_out["x_1"], held_out["label"])


class _Running:
    def __init__(self, classifier: LabelClassifier, held_out: float, setting: Setting) -> None:
        self.classifier = classifier
        self.held_out = held_out
        self.setting = setting
        self.right = 0
        self.seen = 0

    def update(self, drawn: Drawn) -> None:
        labels: Tensor | None = drawn.labels
        assert labels is not None
        predicted = self.classifier.predict(drawn.samples)
        self.right += int(torch.eq(predicted, labels.cpu()).sum())
        self.seen += len(labels)

    def figures(self) -> Figures:
        parts = self.setting.shards.gather((self.right, self.seen))
        right, seen = (sum(column) for column in zip(*parts, strict=True))
        return {
            "accuracy": right / seen,
            "accuracy_on_held_out_images": self.held_out,
            "samples": seen,
            "classifier": f"{self.classifier.description}, fitted to "
            f"{self.classifier.num_training} training images",
        }
