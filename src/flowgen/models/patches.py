"""An image as a grid of patches, row by row, and back."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.models.checks import check_positive, sample_shape


class Patches:
    """Cuts images into squares: tokens of ``channels * patch^2`` numbers.

    Args:
        shape: Channels, height and width of an image.
        patch: Side of a square; must divide height and width.

    Attributes:
        grid: Rows and columns of squares.
        size: Numbers in a square.

    Raises:
        InputError: If ``patch`` is not positive or does not divide the image.
    """

    def __init__(self, shape: Sequence[int], patch: int) -> None:
        self.shape = sample_shape(shape, num_axes=3)
        check_positive(patch=patch)
        channels, height, width = self.shape
        if height % patch or width % patch:
            raise InputError(f"patch {patch} must divide the image, {height} x {width}")
        self.patch = patch
        self.grid = (height // patch, width // patch)
        self.size = channels * patch**2

    @property
    def count(self) -> int:
        """Squares of an image."""
        return self.grid[0] * self.grid[1]

    def cut(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n k"]:
        """Return the squares of images, shape ``(b, count, size)``."""
        (rows, columns), p = self.grid, self.patch
        x = x.reshape(-1, self.shape[0], rows, p, columns, p)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, rows * columns, self.size)

    def join(self, patches: Float[Tensor, "b n k"]) -> Float[Tensor, "b c h w"]:
        """Return the images of squares, shape ``(b, c, h, w)``."""
        (rows, columns), p = self.grid, self.patch
        patches = patches.reshape(-1, rows, columns, self.shape[0], p, p)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(-1, *self.shape)
