"""Minibatch optimal transport: the pairs of one batch with the least total squared distance.

Any rule that treats rows alike and returns a permutation keeps both marginals exact, so the flow
still ends at the data; its paths cross less, are straighter and need fewer steps. With a condition
this breaks: the noise that meets a class is then the noise nearest to it, while sampling draws
noise that knows nothing of the class.
"""

import torch

from flowgen.core import InputError, Pair
from flowgen.couplings.solver import optimal_permutation, repair


class ExactAssignment:
    """Permutes ``x_0`` so that the sum of ``|x_0 - x_1|^2`` over the batch is least.

    Solved on the CPU from any device, so it waits for an accelerator: see ``coupling/ms``.

    Attributes:
        score_valid: False: given the data, the source is no longer Gaussian.
        exact_marginals: True.
        condition_safe: False, hence a pair with a condition is refused.

    Source: Pooladian et al. 2023, arXiv 2304.14772; Tong et al. 2024, arXiv 2302.00482; for the
        condition Cheng and Schwing 2025, arXiv 2503.10636.
    """

    score_valid: bool = False
    exact_marginals: bool = True
    condition_safe: bool = False

    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the pairs of least total cost; draws nothing.

        Args:
            pair: Unconditional and unweighted, each side ``(b, *d)``; ``x_1`` stays in place.
            generator: Unused: the assignment is deterministic.

        Returns:
            The coupled pair, with the stats of :func:`flowgen.couplings.with_figures`.

        Raises:
            InputError: If the pair has a condition or weights, or its values are not finite.
        """
        del generator
        if pair.cond:
            raise InputError(
                "ExactAssignment got a condition: plain optimal transport makes the noise depend "
                "on the condition, which sampling does not know, and skews conditional samples; "
                "use coupling=class_assignment for labels, coupling=condition_assignment for other "
                "conditions, or conditional=false"
            )
        return repair(pair, optimal_permutation, name="ExactAssignment")
