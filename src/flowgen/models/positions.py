"""Where a token stands on its grid: an object that a transformer is built with.

Rotary positions turn each pair of features of a query and a key by an angle proportional to the
token's position, so that their product depends on the relative position only:
``<R(p) q, R(p') k> = <q, R(p' - p) k>`` (Su 2021, arXiv 2104.09864, eq. 16). On a two-dimensional
grid half of the pairs turn with the row and half with the column. Learned positions are a table
that is added to the tokens.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import InputError


class Positions(nn.Module):
    """No positions: tokens pass unchanged. The other kinds override one of the two methods.

    Args:
        grid: Rows and columns of tokens.
        width: Size of a token.
        heads: Number of attention heads.
    """

    def __init__(self, grid: tuple[int, int], width: int, heads: int) -> None:
        super().__init__()
        self.grid, self.width, self.heads = grid, width, heads

    def embed(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Return the tokens, row by row, with their positions added."""
        return tokens

    def rotation(self) -> Float[Tensor, "2 n k"] | None:
        """Return cosine and sine of every token's angles for :func:`rotate`, or None."""
        return None


class LearnedPositions(Positions):
    """A learned table of one row for each token, added to the tokens.

    Source: Dosovitskiy 2020, arXiv 2010.11929, eq. 1.
    """

    def __init__(self, grid: tuple[int, int], width: int, heads: int) -> None:
        super().__init__(grid, width, heads)
        self.table = nn.Parameter(0.02 * torch.randn(math.prod(grid), width))

    def embed(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Return ``tokens + table``."""
        return tokens + self.table


class RotaryPositions(Positions):
    """Rotary positions on the rows and columns of the grid.

    Args:
        grid: Rows and columns of tokens.
        width: Size of a token; ``width / heads`` must be a multiple of 4.
        heads: Number of attention heads.
        base: Ratio of the fastest frequency, one radian per token, to the slowest; above 1. Grids
            of images are short, so 100 serves where language takes 10000.

    Raises:
        InputError: If the size of a head is no multiple of 4 or ``base`` is not above 1.
    """

    table: Tensor

    def __init__(
        self, grid: tuple[int, int], width: int, heads: int, *, base: float = 100.0
    ) -> None:
        super().__init__(grid, width, heads)
        head_width = width // heads
        if head_width % 4:
            raise InputError(f"rotary positions need width / heads divisible by 4: {head_width}")
        if not (math.isfinite(base) and base > 1.0):
            raise InputError(f"base must be finite and above 1, got {base}")
        num_frequencies = head_width // 4
        exponents = torch.arange(num_frequencies, dtype=torch.float64) / num_frequencies
        frequencies = base**-exponents
        rows, columns = (torch.arange(size, dtype=torch.float64) for size in grid)
        places = torch.cartesian_prod(rows, columns)
        angles = (places[:, :, None] * frequencies).flatten(1)
        table = torch.stack([angles.cos(), angles.sin()])
        self.register_buffer("table", table.to(torch.get_default_dtype()), persistent=False)

    def rotation(self) -> Float[Tensor, "2 n k"]:
        """Return the cosine and sine of all angles, ``k = width / heads / 2`` for each token."""
        return self.table


def rotate(x: Float[Tensor, "b h n d"], rotation: Float[Tensor, "2 n k"]) -> Tensor:
    """Return ``x`` with features ``(i, i + d/2)`` turned by the token's angle ``i``.

    Args:
        x: Queries or keys by head, shape ``(b, h, n, d)``.
        rotation: Cosines and sines, shape ``(2, n, d / 2)``.
    """
    cos, sin = rotation.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
