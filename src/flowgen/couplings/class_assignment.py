"""Optimal transport that is safe with labels: one assignment inside each class.

The noise of a batch is drawn without regard to the labels of its rows. Permuting it only among rows
of one class leaves the noise of every class distributed as the source, so noise and label stay
independent, as they are in sampling. It is the limit of an infinite cost for a change of class.
The gain grows with the number of rows per class: about batch size / number of classes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import InputError, Pair
from flowgen.couplings.solver import optimal_permutation, repair


class ClassAssignment:
    """Permutes ``x_0`` inside each class so that the sum of ``|x_0 - x_1|^2`` is least.

    Every value of the label counts as a class of its own, a null label too. Solved on the CPU from
    any device, class by class, so it waits for an accelerator: see ``coupling/ms``.

    Args:
        label: Name of the condition that holds the class of each row.

    Attributes:
        score_valid: False: given the data, the source is no longer Gaussian.
        exact_marginals: True, in every class.
        condition_safe: True for conditions that are functions of the label.

    Raises:
        InputError: If ``label`` is empty.

    Source: Cheng and Schwing 2025, arXiv 2503.10636 (C2OT, discrete conditions).
    """

    score_valid: bool = False
    exact_marginals: bool = True
    condition_safe: bool = True

    def __init__(self, label: str = "label") -> None:
        if not label:
            raise InputError(f"label must be the name of a condition, got '{label}'")
        self.label = label

    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the pairs of least total cost among those that keep the noise of each class.

        Args:
            pair: Unweighted, each side ``(b, *d)``, with an integer ``cond[label]`` of shape
                ``(b,)`` and no other condition; ``x_1`` and ``cond`` stay in place.
            generator: Unused: the assignment is deterministic.

        Returns:
            The coupled pair, with the stats of :func:`flowgen.couplings.with_figures`.

        Raises:
            InputError: If the label is missing or not an integer vector, if there is another
                condition or a weight, or if a value is not finite.
        """
        del generator
        cond = pair.cond or {}
        if self.label not in cond:
            raise InputError(
                f"ClassAssignment needs the class of each row in cond['{self.label}'], got "
                f"{sorted(cond) or 'no condition'}; without labels use coupling=exact_assignment"
            )
        others = sorted(set(cond) - {self.label})
        if others:
            raise InputError(
                f"ClassAssignment keeps the noise independent of '{self.label}' alone, but the "
                f"pair also has {others}; use coupling=independent"
            )
        label = cond[self.label]
        if label.ndim != 1 or label.is_floating_point() or label.is_complex():
            raise InputError(
                f"cond['{self.label}'] must be an integer vector (b,), got {label.dtype} of shape "
                f"{tuple(label.shape)}"
            )
        return repair(
            pair, lambda x_0, x_1: _inside_classes(x_0, x_1, label), name="ClassAssignment"
        )


def _inside_classes(
    x_0: Float[Tensor, "b *d"], x_1: Float[Tensor, "b *d"], label: Tensor
) -> Int[Tensor, " b"]:
    """Return the row of ``x_0`` that goes to each row of ``x_1``, of the same class."""
    classes = label.cpu()
    index = torch.arange(len(x_1))
    for value in classes.unique():
        rows = torch.nonzero(classes == value).flatten()
        here = rows.to(x_1.device)
        index[rows] = rows[optimal_permutation(x_0[here], x_1[here]).cpu()]
    return index.to(x_1.device)
