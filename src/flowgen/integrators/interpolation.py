"""Weights of the values of a function in an integral of its interpolating polynomial."""

from collections.abc import Sequence

import numpy as np


def weights_of(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """Return ``w`` with ``sum_j w_j f(u_j) = integral of f`` for all polynomials of low degree.

    Args:
        nodes: ``n`` distinct places ``u_j``, of the order of 1.
        moments: The integrals of ``u^k`` for ``k = 0 .. n - 1``.

    Returns:
        ``n`` weights.
    """
    matrix = np.vander(np.asarray(nodes, dtype=np.float64), increasing=True).T
    return np.linalg.solve(matrix, np.asarray(moments, dtype=np.float64)).tolist()
