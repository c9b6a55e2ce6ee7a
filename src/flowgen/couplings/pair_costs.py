"""The costs of all pairs of two samples: ``C_ij = -x_i . y_j`` of the centred clouds.

With ``x = x_0 - mean``, ``y = x_1 - mean`` and ``delta`` the difference of the means,
``|x_0 - x_1|^2 / 2 = C_ij + row_i + column_j``, where ``row = |x + delta|^2 / 2`` and
``column = |y|^2 / 2 - y . delta``. Balanced transport does not see the last two; without them the
numbers are small and centred on 0, which is what single precision needs at a small epsilon. The
standard deviation of ``C`` over all pairs is ``sqrt(tr(S_x S_y))`` of the two covariances.
"""

import copy
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, flatten
from flowgen.couplings.products import inner_products

MAX_ELEMENTS = 2**26
"""Costs held in memory at once unless told otherwise: 256 MB in single precision."""


_BLOCK = 2**18
"""Costs in a block on a CPU, which stay in its cache while they are worked on."""


class PairCosts:
    """Costs ``-x_i . y_j`` of the pairs of two weighted samples, held or made block by block.

    Args:
        x_0: Source samples, ``(n, *d)``, finite.
        x_1: Data samples, ``(m, *d)``, of the same type and device.
        a: Weights of the source samples, ``(n,)``, > 0 with sum 1; equal ones if None.
        b: Weights of the data samples, ``(m,)``, likewise.
        dtype: Of the costs; that of the samples and at least single precision if None.
        max_elements: Up to so many costs are computed once and held; if there are more, blocks of
            at most so many are computed whenever they are needed.

    Attributes:
        x: ``(n, d)``, centred.
        y: ``(m, d)``, centred.
        row: ``(n,)``, see above.
        column: ``(m,)``.

    Raises:
        InputError: If the shapes of single samples differ, a square is not finite, or
            ``max_elements`` is less than 1.
    """

    def __init__(
        self,
        x_0: Float[Tensor, "n *d"],
        x_1: Float[Tensor, "m *e"],
        a: Float[Tensor, " n"] | None = None,
        b: Float[Tensor, " m"] | None = None,
        *,
        dtype: torch.dtype | None = None,
        max_elements: int = MAX_ELEMENTS,
    ) -> None:
        if max_elements < 1:
            raise InputError(f"max_elements must be >= 1, got {max_elements}")
        if x_0.shape[1:] != x_1.shape[1:]:
            raise InputError(
                f"x_0 and x_1 must have samples of one shape, got {tuple(x_0.shape[1:])} "
                f"and {tuple(x_1.shape[1:])}"
            )
        self._given = (x_0, x_1, a, b)
        self.max_elements = max_elements
        self._made_in = wide = (
            torch.promote_types(x_1.dtype, torch.float32) if dtype is None else dtype
        )
        x, y = (flatten(v.detach()).to(wide) for v in (x_0, x_1))
        self.a = _weights(a, x)
        self.b = _weights(b, y)
        mean_x, mean_y = self.a @ x, self.b @ y
        self.x, self.y = x - mean_x, y - mean_y
        delta = mean_x - mean_y
        self.row = (self.x + delta).square().sum(dim=1) / 2
        self.column = self.y.square().sum(dim=1) / 2 - self.y @ delta
        total = self.row.sum() + self.column.abs().sum()
        if not bool(total.isfinite()):
            raise InputError("x_0 and x_1 must be finite with finite squares")
        self._matrix: Tensor | None = None
        self._std: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``."""
        return len(self.x), len(self.y)

    @property
    def held(self) -> bool:
        """Whether all costs are in memory."""
        return self.shape[0] * self.shape[1] <= self.max_elements

    @property
    def matrix(self) -> Float[Tensor, "n m"]:
        """All costs; made at the first use, and kept if :attr:`held`."""
        if self._matrix is not None:
            return self._matrix
        matrix = self._product(self.x, self.y)
        if self.held:
            self._matrix = matrix
        return matrix

    @property
    def std(self) -> float:
        """``sqrt(tr(S_x S_y))``, the standard deviation of the cost over all pairs."""
        if self._std is None:
            parts = [(block.square() @ self.b) @ self.a[rows] for rows, block in self.rows()]
            self._std = float(torch.stack(parts).sum().sqrt())
        return self._std

    @property
    def offset(self) -> float:
        """What ``|x_0 - x_1|^2`` has more than ``2 C`` on average under any balanced plan."""
        sides = ((self.a, self.row), (self.b, self.column))
        return 2 * sum(float(weight.double() @ value.double()) for weight, value in sides)

    def rows(self) -> Iterator[tuple[slice, Float[Tensor, "k m"]]]:
        """Yield blocks of rows: which, and their costs ``(k, m)``, not to be changed."""
        for part in self._parts(*self.shape):
            yield part, (self.matrix[part] if self.held else self._product(self.x[part], self.y))

    def columns(self) -> Iterator[tuple[slice, Float[Tensor, "k n"]]]:
        """Yield blocks of columns: which, and their costs ``(k, n)``, not to be changed."""
        for part in self._parts(*self.shape[::-1]):
            yield (
                part,
                (self.matrix[:, part].mT if self.held else self._product(self.y[part], self.x)),
            )

    def double(self) -> "PairCosts":
        """Return the same costs, made in double precision."""
        if self._made_in == torch.float64:
            return self
        x_0, x_1, a, b = self._given
        return PairCosts(x_0, x_1, a, b, dtype=torch.float64, max_elements=self.max_elements)

    def widened(self) -> "PairCosts":
        """Return the same costs, made in their own precision, for sums in double precision.

        For samples of many dimensions this takes a small part of the time of :meth:`double`.

        Raises:
            InputError: If not all costs are :attr:`held`.
        """
        if not self.held:
            raise InputError("only costs that are held can be widened")
        matrix, found = self.matrix, copy.copy(self)
        found.a, found.b, found._matrix = self.a.double(), self.b.double(), matrix.double()
        found.x, found.y = self.x.double(), self.y.double()
        found.row, found.column = self.row.double(), self.column.double()
        return found

    def _parts(self, length: int, width: int) -> list[slice]:
        most = min(self.max_elements, _BLOCK if self.x.device.type == "cpu" else 2**26)
        step = max(1, most // width)
        return [slice(i, min(i + step, length)) for i in range(0, length, step)]

    def _product(self, x: Tensor, y: Tensor) -> Tensor:
        return inner_products(-x, y)


def _weights(weights: Tensor | None, x: Tensor) -> Tensor:
    if weights is None:
        return x.new_full((len(x),), 1 / len(x))
    return weights.to(x)
