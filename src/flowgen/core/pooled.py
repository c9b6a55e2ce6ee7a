"""One vector of a text before its tokens, in as many rows as it fills.

Some networks read a vector of the whole text beside the tokens. As rows of the same width it is
cached, emptied and repeated together with them.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def vector_rows(vector: int, width: int) -> int:
    """Return how many rows of ``width`` hold a vector of ``vector`` numbers."""
    return -(-vector // width)


def with_vector(
    states: Float[Tensor, "n l w"], mask: Bool[Tensor, "n l"], vector: Float[Tensor, "n p"]
) -> tuple[Float[Tensor, "n k w"], Bool[Tensor, "n k"]]:
    """Return tokens and their mask with the rows of a vector before them.

    Args:
        states: Of the tokens, shape ``(n, l, w)``.
        mask: Which of them are tokens, shape ``(n, l)``; the rows of the vector are.
        vector: One for each text, shape ``(n, p)``; the last row is filled with zeros.
    """
    n, _, width = states.shape
    rows = vector_rows(vector.shape[1], width)
    filled = torch.zeros(n, rows * width, dtype=states.dtype, device=states.device)
    filled[:, : vector.shape[1]] = vector
    added = torch.ones(n, rows, dtype=torch.bool, device=mask.device)
    return torch.cat([filled.view(n, rows, width), states], 1), torch.cat([added, mask], 1)
