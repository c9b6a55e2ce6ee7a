"""The coupling that changes nothing: source and data are paired as they were drawn."""

import torch

from flowgen.core import Pair


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
        """Return ``pair`` itself, with its condition, weight and stats; draws nothing."""
        del generator
        return pair
