"""The coupling that changes nothing: source and data are paired as they were drawn."""

from dataclasses import replace

import torch

from flowgen.core import Pair
from flowgen.couplings.figures import cost_of


class Independent:
    """Returns the pair as it is; right for every source, condition and sampler.

    Attributes:
        score_valid: True: given the data, the source is still what it was drawn from.
        exact_marginals: True.
        condition_safe: True.

    Source: Lipman et al. 2023, arXiv 2210.02747; Tong et al. 2024, arXiv 2302.00482, section 3.2.
    """

    score_valid: bool = True
    exact_marginals: bool = True
    condition_safe: bool = True

    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the pairs as they are; draws nothing, waits for nothing.

        Args:
            pair: Any.
            generator: Unused.

        Returns:
            The very tensors of ``pair``, with ``coupling/cost`` (mean squared distance per
            dimension) beside its stats: what all other couplings start from. Nothing is saved, so
            ``coupling/saved`` and ``coupling/optimality`` are 0 by definition and not told.
        """
        del generator
        return replace(pair, stats={**pair.stats, "coupling/cost": cost_of(pair)})
