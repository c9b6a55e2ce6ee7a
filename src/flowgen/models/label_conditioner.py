"""Class labels as a condition: what a user asks for, the null label, dropping in training.

A label travels as ``cond["label"]``, int64 of shape ``(b,)``; the number ``num_classes`` itself is
the null label, which means "no condition". Training replaces a fraction of the labels by it, each
sample on its own, so that one network learns the conditional and the unconditional velocity
(Ho and Salimans 2022, arXiv 2207.12598, algorithm 1).
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgen.core import Condition, Count, InputError
from flowgen.models.checks import check_fraction, check_positive


class LabelConditioner:
    """Turns classes into conditions, and conditions into null ones.

    Args:
        num_classes: Number of classes, at least 1.
        dropout: Fraction of labels that training replaces by the null label, in ``[0, 1)``.
        names: Name of every class, in order, or None if they are plain numbers.
        kind: What the classes are of: the name of the condition, e.g. ``label`` or ``style``.

    Raises:
        InputError: If an argument leaves its range, or the names are too few or repeat.
    """

    def __init__(
        self,
        num_classes: int,
        dropout: float = 0.1,
        names: Sequence[str] | None = None,
        kind: str = "label",
    ) -> None:
        check_positive(num_classes=num_classes)
        check_fraction("dropout", dropout)
        if names is not None and (len(names) != num_classes or len(set(names)) != num_classes):
            raise InputError(f"names must be {num_classes} different ones, got {list(names)}")
        self.num_classes = num_classes
        self.dropout = dropout
        self.names = None if names is None else tuple(names)
        self.kind = kind

    @property
    def kinds(self) -> tuple[str, ...]:
        """What users may ask for: one kind of classes."""
        return (self.kind,)

    def use(self, captions: Sequence[str] | None) -> None:
        """Prepare for batches of a data set: nothing to do."""

    def take(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the classes of a batch of data, int64 ``(b,)``."""
        return {self.kind: batch[self.kind]}

    def rows(
        self,
        asked: Mapping[str, Any],
        numbers: Sequence[int],
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Return the classes of samples, every class in turn where none is asked for.

        Args:
            asked: ``{kind: list of numbers and names}``, repeated in order, or empty.
            numbers: Global numbers of the samples.
            device: Where the condition lives.

        Raises:
            InputError: If a label does not exist.
        """
        if self.kind not in asked:
            return self.cycle(numbers, device)
        entries = asked[self.kind]
        own = [entries[number % len(entries)] for number in numbers]
        return self.encode(own, len(own), device)

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
            kinds = f"{self.kind}s"
            raise InputError(f"{len(given)} {kinds} for {n} samples: give one to {n} {kinds}")
        numbers = torch.tensor(given, device=device)
        return {self.kind: numbers[torch.arange(n, device=device) % len(given)]}

    def null(self, n: Count, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """Return the condition that means "none", for ``n`` samples."""
        return {self.kind: torch.full((n,), self.num_classes, dtype=torch.int64, device=device)}

    def cycle(
        self, indices: Iterable[int], device: torch.device | str | None = None
    ) -> dict[str, Tensor]:
        """Return label ``i % num_classes`` for each global sample number ``i``."""
        numbers = [index % self.num_classes for index in indices]
        return {self.kind: torch.tensor(numbers, dtype=torch.int64, device=device)}

    def drop(
        self, cond: Condition, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return ``cond`` with each label, on its own, replaced by null with chance ``dropout``.

        Args:
            cond: Must hold the labels ``(b,)``; other conditions are passed on.
            generator: Source of randomness, on the device of the labels.
        """
        label = cond[self.kind]
        chance = torch.rand(label.shape, generator=generator, device=label.device)
        null = torch.full_like(label, self.num_classes)
        return {**cond, self.kind: torch.where(chance < self.dropout, null, label)}

    def _number(self, label: int | str) -> int:
        # Classes named 1, 2, 10 stand in another order: a number that is typed means the name.
        if self.names is not None and (isinstance(label, str) or self._named_by_numbers):
            if str(label) in self.names:
                return self.names.index(str(label))
            raise InputError(f"{self.kind} {label!r} does not exist: {self._choices(label)}")
        return self._index(label)

    @property
    def _named_by_numbers(self) -> bool:
        return self.names is not None and all(name.isdecimal() for name in self.names)

    def _index(self, label: int | str) -> int:
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < self.num_classes:
            return label
        raise InputError(f"{self.kind} {label!r} does not exist: {self._choices(label)}")

    def _choices(self, label: int | str) -> str:
        rule = f"{self.kind}s are 0 to {self.num_classes - 1}"
        if self.names is None or self.names == tuple(map(str, range(self.num_classes))):
            return rule
        if self._named_by_numbers:
            return f"{self.kind}s are {', '.join(self.names)}"
        near = difflib.get_close_matches(label, self.names, n=1) if isinstance(label, str) else []
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"{hint}{rule}, or {', '.join(self.names)}"
