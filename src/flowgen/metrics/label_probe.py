"""Can the label be told from the noise? It must not, where a model is sampled with a label.

A coupling that looks at the data may send noise to a class by its place. A logistic regression on
the coupled source samples shows it: fitted on one half of the rows, its accuracy on the other half
stays at that of always guessing the most frequent label where noise and label are independent.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, flatten, generator_for


@dataclass(frozen=True)
class LabelProbe:
    """How well a linear probe tells labels.

    Args:
        accuracy: Share of held-out rows whose label it tells, in [0, 1].
        chance: Share of the most frequent label among them: what no knowledge gives.
        num_held_out: How many rows; the standard error is ``sqrt(chance (1 - chance) / rows)``.
    """

    accuracy: float
    chance: float
    num_held_out: int


def label_probe(
    x: Float[Tensor, "n *d"],
    label: Tensor,
    *,
    penalty: float = 1e-3,
    seed: int = 0,
) -> LabelProbe:
    """Return the accuracy of a logistic regression of ``label`` on ``x``, on held-out rows.

    Args:
        x: Coupled source samples ``(n, *d)``, n >= 4; many batches together, with many more rows
            than dimensions.
        label: Of the data that each row was coupled to, integers ``(n,)``.
        penalty: Half the weight of the squared coefficients in the mean loss, >= 0, on coordinates
            of standard deviation 1.
        seed: Of the split into halves, non-negative.

    Raises:
        InputError: If shapes are wrong, a value is not finite, or there is one label only.

    Source: Cheng and Schwing 2025, arXiv 2503.10636, for what it shows.
    """
    if label.ndim != 1 or label.is_floating_point() or len(label) != len(x) or len(x) < 4:
        raise InputError(
            f"label must be integers, one for each of at least 4 rows, got {label.dtype} of shape "
            f"{tuple(label.shape)} for {len(x)} rows"
        )
    if penalty < 0:
        raise InputError(f"penalty must be >= 0, got {penalty}")
    rows = flatten(x).detach().to("cpu", torch.float64)
    if not bool(rows.isfinite().all()):
        raise InputError("x must be finite")
    known, target = label.cpu().unique(return_inverse=True)
    if len(known) < 2:
        raise InputError("label must hold at least two different ones")
    order = torch.randperm(len(rows), generator=generator_for(seed))
    train, held_out = order[: len(order) // 2], order[len(order) // 2 :]
    rows = (rows - rows[train].mean(dim=0)) / rows[train].std(dim=0).clamp(min=1e-12)
    rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
    weight = _fitted(rows[train], target[train], len(known), penalty)
    told = (rows[held_out] @ weight).argmax(dim=1)
    counts = torch.bincount(target[held_out], minlength=len(known))
    return LabelProbe(
        accuracy=float((told == target[held_out]).double().mean()),
        chance=float(counts.max() / len(held_out)),
        num_held_out=len(held_out),
    )


def _fitted(rows: Tensor, target: Tensor, num_classes: int, penalty: float) -> Tensor:
    """Return the coefficients ``(d + 1, k)`` of least penalised loss; the last row is the bias."""
    weight = torch.zeros(rows.shape[1], num_classes, dtype=rows.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(rows @ weight, target)
        loss = loss + penalty * weight[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    return weight.detach()
