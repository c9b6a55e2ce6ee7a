"""The handwritten digits that ship with scikit-learn: 1797 grey 8x8 images, 10 classes.

No download and no extra package, so this is the default data of the framework.
"""

import torch

from flowgen.data.arrays import ImageData
from flowgen.data.splits import check_holdout, stratified_split


class Digits(ImageData):
    """Scikit-learn's digits, grey values 0..16 scaled to 0..255.

    Args:
        holdout: Fraction of each class that is held out, in (0, 1).
        seed: Of the split, non-negative.

    Raises:
        InputError: If an argument is out of range.

    Source: Alpaydin and Kaynak 1998, UCI "Optical recognition of handwritten digits" (test part).
    """

    def __init__(self, holdout: float = 0.2, seed: int = 0) -> None:
        check_holdout(holdout, seed)
        from sklearn.datasets import load_digits

        images, targets = load_digits(return_X_y=True)
        x = torch.from_numpy(images).reshape(-1, 1, 8, 8).mul(255.0 / 16.0).round().to(torch.uint8)
        labels = torch.from_numpy(targets).to(torch.int64)
        train, test = stratified_split(labels, holdout, seed=seed)
        super().__init__(
            "digits",
            x[train],
            x[test],
            train_labels=labels[train],
            test_labels=labels[test],
            label_names=[str(digit) for digit in range(10)],
        )
