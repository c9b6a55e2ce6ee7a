"""A data set drawn once from a distribution: finite training points, held-out points apart.

Training and held-out points come from two independent streams of one seed, so changing the size of
one set does not touch the other.
"""

from flowgen.core import InputError, Source, generator_for
from flowgen.data.arrays import ArraySplit
from flowgen.data.codecs import Identity, Standardize
from flowgen.data.protocol import Codec, Split


class PointData:
    """Vectors from any distribution, unlabelled: a :class:`flowgen.data.DataSet`.

    Args:
        distribution: Anything with ``sample(n, *, generator, device)``.
        num_train: Training points, >= 2.
        num_test: Held-out points, >= 1.
        seed: Of the draw, non-negative.
        standardize: Whether models see ``(x - mean) / std`` with the mean of each coordinate and
            one std for all, both of the training points; else they see the points themselves.
        name: Short name for logs and reports; None takes the class of ``distribution``.

    Raises:
        InputError: If a number is out of range, or samples are not finite floats ``(n, d)``.
    """

    num_classes: int | None = None
    label_names: tuple[str, ...] | None = None

    def __init__(
        self,
        distribution: Source,
        num_train: int = 10_000,
        num_test: int = 1_000,
        seed: int = 0,
        standardize: bool = False,
        name: str | None = None,
    ) -> None:
        if num_train < 2:
            raise InputError(f"num_train must be >= 2, got {num_train}")
        if num_test < 1:
            raise InputError(f"num_test must be >= 1, got {num_test}")
        if seed < 0:
            raise InputError(f"seed must be >= 0, got {seed}")
        self.distribution = distribution
        self.name = name or type(distribution).__name__
        train = distribution.sample(num_train, generator=generator_for(seed, 0))
        test = distribution.sample(num_test, generator=generator_for(seed, 1))
        if train.ndim < 2 or not train.is_floating_point() or not bool(train.isfinite().all()):
            raise InputError(
                f"{self.name}: samples must be finite floats (n, d), got {train.dtype} "
                f"{tuple(train.shape)}"
            )
        self.shape: tuple[int, ...] = tuple(train.shape[1:])
        self.codec: Codec = Identity()
        if standardize:
            axes = (0, *range(2, train.ndim))
            mean = train.double().mean(dim=axes, keepdim=True)
            std = (train.double() - mean).square().mean().sqrt()
            self.codec = Standardize(mean.flatten().tolist(), float(std))
        self._train = ArraySplit(train.float())
        self._test = ArraySplit(test.float())

    @property
    def train(self) -> Split:
        """Points to train on."""
        return self._train

    @property
    def test(self) -> Split:
        """Held-out points."""
        return self._test
