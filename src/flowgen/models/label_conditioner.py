"""Class labels as a condition: what a user asks for, the null label, dropping in training.

A label travels as ``cond["label"]``, int64 of shape ``(b,)``; the number ``num_classes`` itself is
the null label, which means "no condition". Training replaces a fraction of the labels by it, each
sample on its own, so that one network learns the conditional and the unconditional velocity
(Ho and Salimans 2022, arXiv 2207.12598, algorithm 1).
"""

import difflib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from flowgen.core import Condition, InputError
from flowgen.models.checks import check_fraction, check_positive


class LabelConditioner:
    """Turns labels into conditions, and conditions into null ones.

    Args:
        num_classes: Number of labels, at least 1.
        dropout: Fraction of labels that training replaces by the null label, in ``[0, 1)``.
        names: Name of every label, in order, or None if labels are plain numbers.

    Raises:
        InputError: If an argument leaves its range, or the names are too few or repeat.
    """

    def __init__(
        self, num_classes: int, dropout: float = 0.1, names: Sequence[str] | None = None
    ) -> None:
        check_positive(num_classes=num_classes)
        check_fraction("dropout", dropout)
        if names is not None and (len(names) != num_classes or len(set(names)) != num_classes):
            raise InputError(f"names must be {num_classes} different ones, got {list(names)}")
        self.num_classes = num_classes
        self.dropout = dropout
        self.names = None if names is None else tuple(names)

    def encode(
        self,
        labels: int | str | Sequence[int | str] | Tensor,
        n: int,
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Return the condition of ``n`` samples.

        Args:
            labels: One label, or a list that is repeated in order until there are ``n``: sample
                ``i`` gets ``labels[i % len(labels)]``. A label is a number or a name; where all
                names are numbers it is the name. A tensor holds numbers of classes.
            n: Number of samples, at least 1.
            device: Where the condition lives.

        Raises:
            InputError: If a label does not exist, or there are none, or more than ``n``.
        """
        check_positive(n=n)
        if isinstance(labels, Tensor):
            given = [self._index(label) for label in labels.reshape(-1).tolist()]
        else:
            listed = [labels] if isinstance(labels, (int, str)) else labels
            given = [self._number(label) for label in listed]
        if not 1 <= len(given) <= n:
            raise InputError(f"{len(given)} labels for {n} samples: give one to {n} labels")
        numbers = torch.tensor(given, device=device)
        return {"label": numbers[torch.arange(n, device=device) % len(given)]}

    def null(self, n: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """Return the condition that means "none", for ``n`` samples."""
        return {"label": torch.full((n,), self.num_classes, dtype=torch.int64, device=device)}

    def cycle(
        self, indices: Iterable[int], device: torch.device | str | None = None
    ) -> dict[str, Tensor]:
        """Return label ``i % num_classes`` for each global sample number ``i``."""
        numbers = [index % self.num_classes for index in indices]
        return {"label": torch.tensor(numbers, dtype=torch.int64, device=device)}

    def drop(
        self, cond: Condition, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return ``cond`` with each label, on its own, replaced by null with chance ``dropout``.

        Args:
            cond: Must hold ``label (b,)``; other conditions are passed on.
            generator: Source of randomness, on the device of the labels.
        """
        label = cond["label"]
        chance = torch.rand(label.shape, generator=generator, device=label.device)
        null = torch.full_like(label, self.num_classes)
        return {**cond, "label": torch.where(chance < self.dropout, null, label)}

    def _number(self, label: int | str) -> int:
        # Classes named 1, 2, 10 stand in another order: a number that is typed means the name.
        if self.names is not None and (isinstance(label, str) or self._named_by_numbers):
            if str(label) in self.names:
                return self.names.index(str(label))
            raise InputError(f"label {label!r} does not exist: {self._choices(label)}")
        return self._index(label)

    @property
    def _named_by_numbers(self) -> bool:
        return self.names is not None and all(name.isdecimal() for name in self.names)

    def _index(self, label: int | str) -> int:
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < self.num_classes:
            return label
        raise InputError(f"label {label!r} does not exist: {self._choices(label)}")

    def _choices(self, label: int | str) -> str:
        rule = f"labels are 0 to {self.num_classes - 1}"
        if self.names is None or self.names == tuple(map(str, range(self.num_classes))):
            return rule
        if self._named_by_numbers:
            return f"labels are {', '.join(self.names)}"
        near = difflib.get_close_matches(label, self.names, n=1) if isinstance(label, str) else []
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"{hint}{rule}, or {', '.join(self.names)}"
