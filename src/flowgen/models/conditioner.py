"""What stands between users, data and the conditions of a network.

A conditioner says what can be asked for (``kinds``), picks conditions out of batches of data, makes
those of samples, empties them for guidance, and drops some of them in training. One kind is for
classes (:class:`flowgen.models.LabelConditioner`), one for text
(:class:`flowgen.models.TextConditioner`); :class:`Conditioners` puts several together.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from flowgen.core import Condition, Count, InputError
from flowgen.models.checks import check_fraction


@runtime_checkable
class Conditioner(Protocol):
    """Makes conditions of a batch; ``cond`` below is one for each row, whatever its keys."""

    dropout: float
    """Share of rows whose conditions training empties all together, or of the only condition."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What users may ask for, e.g. ``("label",)``."""
        ...

    def use(self, captions: Sequence[str] | None) -> None:
        """Prepare for batches of a data set.

        Args:
            captions: Its captions, which batches name by their numbers, or None if it has none.
        """
        ...

    def take(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the conditions of a batch of data."""
        ...

    def rows(
        self,
        asked: Mapping[str, Any],
        numbers: Sequence[int],
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Return the conditions of samples.

        Args:
            asked: By name, a list that is repeated in order: sample ``i`` gets entry ``i % len``.
                Where nothing is asked for at all, samples take turns; a name left out is empty.
            numbers: Global numbers of the samples.
            device: Where the conditions live.
        """
        ...

    def null(self, n: Count, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """Return the condition that means "none", for ``n`` samples."""
        ...

    def drop(
        self, cond: Condition, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the conditions with some emptied, each row on its own."""
        ...


def asked_for(asked: Mapping[str, Any], kinds: Sequence[str], n: int) -> dict[str, list[Any]]:
    """Return what was asked for as lists by name; one entry for all is a list of one.

    Args:
        asked: By name: a text, a number, a list or a tensor of them; None is left out.
        kinds: What can be asked for.
        n: Number of samples.

    Raises:
        InputError: If a name is unknown, or a list is empty or longer than ``n``.
    """
    found = {}
    for name, value in asked.items():
        if value is None:
            continue
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(
                f"the model takes no {name}={value!r}: {hint}it takes {', '.join(kinds) or 'none'}"
            )
        if isinstance(value, Tensor):
            entries = value.reshape(-1).tolist()
        else:
            entries = [value] if isinstance(value, int | str) else list(value)
        if not 1 <= len(entries) <= n:
            raise InputError(f"{len(entries)} {name}s for {n} samples: give one to {n} {name}s")
        found[name] = entries
    return found


class Conditioners:
    """Several conditions at once, each dropped on its own, and sometimes all together.

    Args:
        parts: By name.
        dropout: Share of rows whose conditions are all emptied, in ``[0, 1)``: the network then
            learns the unconditional velocity, which guidance needs.
        examples: What samples take in turn where nothing is asked for: entries by name, as data
            have them together. Without, every part takes its own turns.

    Raises:
        InputError: If there are none, one does not make what it is named for, or ``dropout`` leaves
            its range.
    """

    def __init__(
        self,
        parts: Mapping[str, Conditioner],
        dropout: float = 0.1,
        examples: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        check_fraction("dropout", dropout)
        if not parts:
            raise InputError("conditioners need one part at least")
        for name, part in parts.items():
            if part.kinds != (name,):
                raise InputError(f"the condition '{name}' is made by one for {part.kinds}")
        self.parts = dict(parts)
        self.dropout = dropout
        self.examples = tuple(dict(example) for example in examples)
        for example in self.examples:
            if set(example) != set(parts):
                raise InputError(f"an example has an entry for each of {list(parts)}: {example}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """What users may ask for."""
        return tuple(self.parts)

    def use(self, captions: Sequence[str] | None) -> None:
        """Prepare for batches of a data set, see :class:`Conditioner`."""
        for part in self.parts.values():
            part.use(captions)

    def take(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the conditions of a batch of data."""
        return _joined(part.take(batch) for part in self.parts.values())

    def rows(
        self,
        asked: Mapping[str, Any],
        numbers: Sequence[int],
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Return the conditions of samples, see :class:`Conditioner`."""
        given = {name: value for name, value in asked.items() if value is not None}
        if not given and self.examples:
            given = {name: [example[name] for example in self.examples] for name in self.parts}
        found = []
        for name, part in self.parts.items():
            own = {name: given[name]} if name in given else {}
            empty = bool(given) and not own
            made = part.null(len(numbers), device) if empty else part.rows(own, numbers, device)
            found.append(made)
        return _joined(found)

    def null(self, n: Count, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """Return the condition that means "none" of all, for ``n`` samples."""
        return _joined(part.null(n, device) for part in self.parts.values())

    def drop(
        self, cond: Condition, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return the conditions with some emptied.

        Each part drops its own, each row for itself; a share of the rows loses all.

        Args:
            cond: As :meth:`take` returns it; other conditions are passed on.
            generator: Source of randomness, on the device of the conditions.
        """
        found: dict[str, Tensor] = dict(cond)
        for part in self.parts.values():
            found = part.drop(found, generator=generator)
        first = next(iter(cond.values()))
        chance = torch.rand(len(first), generator=generator, device=first.device)
        empty = self.null(len(first), first.device)
        return {
            name: emptied(value, empty[name], chance < self.dropout) if name in empty else value
            for name, value in found.items()
        }


def emptied(value: Tensor, null: Tensor, rows: Tensor) -> Tensor:
    """Return a condition with the null one in the ``rows (b,)`` that are true."""
    return torch.where(rows.reshape(-1, *[1] * (value.ndim - 1)), null.to(value.dtype), value)


def _joined(parts: Any) -> dict[str, Tensor]:
    return {name: value for part in parts for name, value in part.items()}
