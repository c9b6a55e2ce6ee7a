"""All squared distances of a batch, for couplings that need the whole matrix and not only a part.

Transport that may leave rows out, or that compares a pair with others, sees the whole
``|x_0 - x_1|^2``: unlike for an assignment, the terms of one side alone count.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, Pair
from flowgen.couplings.pair_costs import PairCosts


def squared_costs(
    pair: Pair, name: str, *, max_elements: int, dtype: torch.dtype | None = None
) -> Float[Tensor, "n n"]:
    """Return ``|x_0^i - x_1^j|^2``, shape ``(n, n)``: rows are noise, columns data.

    Args:
        pair: Its two sides, ``(n, *d)`` each, finite.
        name: Of the coupling, for the error.
        max_elements: Of the matrix.
        dtype: Of the costs; that of the samples and at least single precision if None.

    Raises:
        InputError: If the matrix is too large or a square is not finite.
    """
    check_held(len(pair), name, max_elements)
    costs = PairCosts(pair.x_0, pair.x_1, dtype=dtype, max_elements=max_elements)
    whole = costs.matrix + costs.row[:, None]
    whole += costs.column
    return whole.mul_(2).clamp_(min=0)


def check_held(n: int, name: str, max_elements: int) -> None:
    """Raise if ``n x n`` costs are more than the coupling ``name`` may hold.

    Raises:
        InputError: Saying what to do.
    """
    if n * n > max_elements:
        raise InputError(
            f"{name} holds the costs of all pairs in memory, but {n} x {n} is above "
            f"max_elements={max_elements}; pair fewer rows at once or raise it"
        )


def check_max_elements(max_elements: int) -> None:
    """Raise if ``max_elements`` is not a size.

    Raises:
        InputError: If it is less than 1.
    """
    if max_elements < 1:
        raise InputError(f"max_elements must be >= 1, got {max_elements}")
